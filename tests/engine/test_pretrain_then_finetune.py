"""The whole way: a GPT, a BERT and a T5, each pretrained on text and fine-tuned for a task.

The short form takes words of a small grammar. The long form pretrains on the glosses of WordNet and
fine-tunes for the sentiment of reviews (UCI), which the decoder and the encoder-decoder write.
"""

import gzip
import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, product
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.real_data import data_path
from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_rows
from weldlm.config import ModelConfig
from weldlm.data import TokenShards
from weldlm.data.corpus import Document
from weldlm.data.prepare import prepare_corpus
from weldlm.data.row_files import read_labelled
from weldlm.finetune import FinetuneSettings, finetune
from weldlm.heads import HEADS, language_head
from weldlm.pretraining import PretrainSettings, adapt_config, build_objective, tokenizer_options
from weldlm.tasks import TaskName
from weldlm.tokenizer import Tokenizer
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.weights import save_pretrained

WORDS = (
    *((word, "good") for word in ("fine", "great", "lovely")),
    *((word, "bad") for word in ("awful", "poor", "dull")),
)
THINGS = ("film", "phone", "meal", "room", "plot", "price", "taste", "sound", "view", "song")
SAYINGS = [(t, w, dots, v) for t, (w, v), dots in product(THINGS, WORDS, (".", ".."))]
PLACED = [(t, w, p, v) for p, t, (w, v) in product(("Rome", "Oslo", "Lima"), THINGS, WORDS)]


@dataclass(frozen=True)
class Pretrained:
    folder: Path
    loss: float  # nats a token that was asked for, on held-out text
    entropy: float  # of the tokens' frequencies: what a model comes to that knows nothing else


def pretrain(
    folder: Path, config: ModelConfig, texts: list[str], *, vocab_size: int, **settings: Any
) -> Pretrained:
    """Learns a tokenizer and a model from texts, a tenth of which is held out."""
    corpus = prepare_corpus(
        [Document(str(number), text) for number, text in enumerate(texts)],
        folder,
        held_out=0.1,
        tokenizer=partial(
            Tokenizer.train, vocab_size=vocab_size, allow_smaller=True, **tokenizer_options(config)
        ),
        vocabulary=f"of size {vocab_size}",
        has_frame=config.is_decoder,
    )
    config = adapt_config(config, corpus.tokenizer)
    torch.manual_seed(0)
    model = HEADS[language_head(config)](config)
    result = Trainer(
        model,
        corpus.train,
        TrainSettings(dtype="float32", warmup_steps=10, eval_rows=200, **settings),
        folder / "run",
        objective=build_objective(config, corpus.tokenizer, PretrainSettings(), seed=0),
        valid=corpus.valid,
    ).fit()
    save_pretrained(model, folder / "model")
    corpus.tokenizer.save_pretrained(folder / "model")
    assert result.valid is not None
    return Pretrained(folder / "model", result.valid.loss, unigram_entropy(corpus.train))


def unigram_entropy(shards: TokenShards) -> float:
    documents = (shards.document(index).tolist() for index in range(len(shards.lengths)))
    counts = Counter(chain.from_iterable(documents))
    total = counts.total()
    return -sum(count / total * log(count / total) for count in counts.values())


@pytest.mark.parametrize(
    ("name", "task", "measure", "steps", "epochs"),
    [
        ("gpt2-tiny", "instruct", "exact_match", 40, 6),
        ("bert-base", "tokens", "f1", 40, 2),
        ("t5-v1.1-small", "seq2seq", "exact_match", 20, 4),
    ],
)
def test_words_of_a_small_grammar(
    tmp_path: Path, name: str, task: TaskName, measure: str, steps: int, epochs: int
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(as_row(task, f"the {t} is {w}{d}", v) for t, w, d, v in SAYINGS))
    training = {"lr": 1e-2, "epochs": epochs, "rows_per_step": 8, "dtype": "float32"}

    pretrained = pretrain(
        tmp_path / "pretrained",
        tiny_config(name, num_encoder_layers=2 if task == "seq2seq" else 0),
        [f"the {t} is {w} and {w} in {place}: {v}" for t, w, place, v in PLACED],
        vocab_size=400,
        steps=steps,
        rows_per_step=8,
        row_length=32,
        lr=1e-2,
    )
    result = finetune(
        pretrained.folder,
        tiny_rows(tmp_path / "tags", task) if task == "tokens" else rows,
        tmp_path / "tuned",
        FinetuneSettings(task=task, patience=None),
        training=training,
    )

    assert pretrained.loss < 0.8 * pretrained.entropy
    assert result.metrics["heldout"][measure] >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "measure", "least"),
    [
        ("bert-base", "sentiment", "accuracy", 0.7),
        ("gpt2-tiny", "instruct", "exact_match", 0.6),
        ("t5-v1.1-small", "seq2seq", "exact_match", 0.6),
    ],
)
def test_sentiment_of_reviews(
    tmp_path: Path, name: str, task: TaskName, measure: str, least: float
) -> None:
    """Half of the reviews are good ones."""
    with gzip.open(data_path("labelled/wordnet-glosses.tsv.gz"), "rt", encoding="utf-8") as lines:
        glosses = [line.rstrip("\n").split("\t")[2] for line in islice(lines, 30_000)]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            as_row(task, row.text, "good" if row.label == "1" else "bad")
            for row in read_labelled(data_path("labelled/uci-sentiment"), "texts").rows
        )
    )

    sizes = {
        "hidden_size": 128, "head_dim": 32, "intermediate_size": 512, "context_length": 512,
    }  # fmt: skip
    pretrained = pretrain(
        tmp_path / "pretrained",
        tiny_config(name, num_encoder_layers=2 if task == "seq2seq" else 0, **sizes),
        glosses,
        vocab_size=4_000,
        steps=400,
        rows_per_step=32,
        row_length=64,
        lr=1e-3,
    )
    result = finetune(
        pretrained.folder,
        rows,
        tmp_path / "tuned",
        FinetuneSettings(task=task, too_long="truncate", patience=None),
        training={"epochs": 4, "dtype": "float32"},
    )

    assert pretrained.loss < pretrained.entropy
    assert result.metrics["heldout"][measure] >= least


def as_row(task: TaskName, text: str, verdict: str) -> str:
    """A line of data: a text with a verdict on it, or what is written on it."""
    names = {"instruct": ("prompt", "response"), "seq2seq": ("source", "target")}
    text_name, verdict_name = names.get(task, ("text", "label"))
    return json.dumps({text_name: text, verdict_name: verdict}) + "\n"
