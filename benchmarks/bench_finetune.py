"""Ragged fine-tuning and ragged masked language modeling, against transformers' Trainer.

python -m benchmarks.bench_finetune    # writes benchmarks/results/finetune.md

Both begin with the same weights and learn from the same rows, as many of them in a step, with
AdamW (fused), clipping and a linear schedule, in fp32 and without dropout. transformers pads to
the longest row of a batch, in the order of its sampler (random, or grouped by length, which is its
best), with sdpa. Speed is real tokens a second: padding does not count. Blocks of steps take turns;
the ratio is the median over the pairs. Beside it stands the loss on held-out rows after a run.
"""

import argparse
import datetime
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from benchmarks.report import installed, processor
from weldlm.callbacks import Callback, StepReport
from weldlm.config import preset
from weldlm.data import write_shards
from weldlm.heads import MaskedLM, Model, SequenceClassifier
from weldlm.objectives import (
    EncodedTexts,
    LabelledSequences,
    LabelledTokens,
    MaskedLMObjective,
)
from weldlm.token_loss import mean_loss
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.training_data import ExampleBatches
from weldlm.weights import load_pretrained, save_pretrained
from weldlm_kernels import use_backend

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results" / "finetune.md"
VOCAB_SIZE, PAD_ID, MASK_ID, IGNORED = 8_192, 0, 1, -100
ROWS_PER_STEP, MOST_TOKENS = 16, 128
LR, WARMUP = 3e-4, 2
STRATEGIES = ("random", "group_by_length")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Work:
    """What is learned, for both sides."""

    name: str
    head: type[Model]
    theirs: Any  # transformers' class
    train: EncodedTexts
    labels: np.ndarray | None  # of texts; hidden tokens are asked for where None
    held_out: ExampleBatches  # with labels that both are judged on


@dataclass
class Clock(Callback):
    """Adds up steps behind the first few."""

    seconds: float = 0.0
    tokens: int = 0
    begin: float = 0.0
    tokens_before: int = 0

    def on_step(self, report: StepReport) -> None:
        self.note(report.step, report.tokens)

    def note(self, step: int, tokens: int) -> None:
        now = time.perf_counter()
        if step > WARMUP:
            self.seconds += now - self.begin
            self.tokens += tokens - self.tokens_before
        self.begin, self.tokens_before = now, tokens

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def texts(seed: int, num_rows: int) -> EncodedTexts:
    """Ragged: most are short, a few are long. A token is mostly followed by its double."""
    generator = np.random.default_rng(seed)
    lengths = np.clip(generator.lognormal(3.2, 0.7, num_rows), 6, MOST_TOKENS).astype(np.int64)
    found = []
    for length in lengths:
        start = generator.integers(100, VOCAB_SIZE, size=(length + 3) // 4)
        ids = np.stack([start * 2**place % (VOCAB_SIZE - 100) + 100 for place in range(4)], axis=1)
        found.append(ids.reshape(-1)[:length])
    return EncodedTexts.of(found)


def labels_of(found: EncodedTexts) -> np.ndarray:
    """Whether a text's ids lie in the upper half of the vocabulary, on average."""
    means = [found.ids[a:b].mean() for a, b in pairwise(found.offsets)]
    return (np.array(means) > VOCAB_SIZE / 2).astype(np.int64)


def hidden(found: EncodedTexts) -> LabelledTokens:
    """Texts in which each seventh token is asked for, the same for both sides."""
    labels = np.where(np.arange(len(found.ids)) % 7 == 3, found.ids, IGNORED)
    ids = np.where(labels == IGNORED, found.ids, MASK_ID)
    return LabelledTokens(EncodedTexts(ids, found.offsets), labels)


def works(num_rows: int) -> list[Work]:
    settings = TrainSettings(steps=1, rows_per_step=ROWS_PER_STEP, dtype="float32")
    train, held_out = texts(0, num_rows), texts(1, 200)
    labelled = LabelledSequences(held_out, labels_of(held_out))
    return [
        Work(
            "classification",
            SequenceClassifier,
            transformers.BertForSequenceClassification,
            train,
            labels_of(train),
            ExampleBatches(labelled, settings, None),
        ),
        Work(
            "masked language modeling",
            MaskedLM,
            transformers.BertForMaskedLM,
            train,
            None,
            ExampleBatches(hidden(held_out), settings, None),
        ),
    ]


def ours(work: Work, start: Path, out: Path, *, steps: int) -> tuple[Clock, Model]:
    clock = Clock()
    model = load_pretrained(start, work.head)
    options: dict[str, Any] = {
        "steps": steps, "lr": LR, "warmup_steps": 0, "schedule": "linear", "min_lr_fraction": 0.0,
        "betas": (0.9, 0.999), "weight_decay": 0.01, "dtype": "float32", "save_every": steps,
    }  # fmt: skip
    if work.labels is not None:
        data: Any = LabelledSequences(work.train, work.labels)
        settings, objective = TrainSettings(rows_per_step=ROWS_PER_STEP, **options), None
    else:
        offsets = work.train.offsets
        documents = [work.train.ids[a:b] for a, b in pairwise(offsets)]
        data = write_shards(out / "data", documents, vocab_size=VOCAB_SIZE)
        # as many tokens in a step as the other side has on average
        rows = round(ROWS_PER_STEP * work.train.lengths.mean() / MOST_TOKENS)
        settings = TrainSettings(rows_per_step=rows, row_length=MOST_TOKENS, **options)
        objective = MaskedLMObjective(
            vocab_size=VOCAB_SIZE, mask_id=MASK_ID, special_ids=[PAD_ID, MASK_ID]
        )
    Trainer(model, data, settings, out / "run", objective=objective, callbacks=[clock]).fit()
    return clock, model


def theirs(work: Work, start: Path, out: Path, strategy: str, *, steps: int) -> tuple[Clock, Model]:
    clock, counted = Clock(), [0]

    def collate(rows: Rows) -> dict[str, Tensor]:
        counted[0] += sum(len(row["input_ids"]) for row in rows)
        return padded(work, rows)

    class Timer(transformers.TrainerCallback):
        def on_step_end(self, _arguments: Any, state: Any, _control: Any, **_: Any) -> None:
            clock.note(state.global_step, counted[0])

    offsets = work.train.offsets
    rows: Rows = [{"input_ids": work.train.ids[a:b].tolist()} for a, b in pairwise(offsets)]
    for row, label in zip(rows, () if work.labels is None else work.labels.tolist(), strict=False):
        row["labels"] = label
    model = work.theirs.from_pretrained(
        start, attn_implementation="sdpa", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=ROWS_PER_STEP, max_steps=steps,
        learning_rate=LR, weight_decay=0.01, max_grad_norm=1.0, lr_scheduler_type="linear",
        optim="adamw_torch_fused", train_sampling_strategy=strategy, report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
        remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Timer()]
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    model.save_pretrained(out / "model")
    return clock, load_pretrained(out / "model", work.head)


def padded(work: Work, rows: Rows) -> dict[str, Tensor]:
    """Pads to the longest row; hides tokens as DataCollatorForLanguageModeling does."""
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row["input_ids"]) for row in rows], batch_first=True, padding_value=PAD_ID
    )
    mask = (ids != PAD_ID).long()
    if work.labels is not None:
        labels = torch.tensor([row["labels"] for row in rows])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}
    draw = torch.rand(2, *ids.shape)
    is_chosen = (draw[0] < 0.15) & (mask == 1)
    labels = ids.where(is_chosen, torch.tensor(IGNORED))
    random = torch.randint(VOCAB_SIZE, ids.shape)
    hidden_ids = torch.where(draw[1] < 0.8, MASK_ID, torch.where(draw[1] < 0.9, random, ids))
    ids = torch.where(is_chosen, hidden_ids, ids)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def start_of(work: Work, folder: Path) -> Path:
    """Weights that all begin with."""
    torch.manual_seed(0)
    config = preset(
        "bert-tiny", vocab_size=VOCAB_SIZE, context_length=MOST_TOKENS, pad_id=PAD_ID,
    )  # fmt: skip
    save_pretrained(work.head(config), folder)
    return folder


def loss(model: Model, work: Work) -> float:
    found = mean_loss(
        model, work.held_out.validation_batches(), dtype="float32", is_stopped=lambda: False
    )
    assert found is not None
    return found[0]


def compare(work: Work, *, steps: int, pairs: int, run_steps: int) -> list[str]:
    """Rows of the table, one for each of their samplers."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="weldlm-finetune-") as name:
        folder, count = Path(name), iter(range(10**6))
        start = start_of(work, folder / "start")

        def fresh() -> Path:
            return folder / str(next(count))

        our_loss = loss(ours(work, start, fresh(), steps=run_steps)[1], work)
        with use_backend("reference"):
            reference_loss = loss(ours(work, start, fresh(), steps=run_steps)[1], work)
        for strategy in STRATEGIES:
            their_loss = loss(theirs(work, start, fresh(), strategy, steps=run_steps)[1], work)
            rates = [
                (
                    ours(work, start, fresh(), steps=steps)[0].rate,
                    theirs(work, start, fresh(), strategy, steps=steps)[0].rate,
                )
                for _ in range(pairs)
            ]
            ratio = statistics.median(one / other for one, other in rates)
            our_rate, their_rate = (statistics.median(side) for side in zip(*rates, strict=True))
            lines.append(
                f"| {work.name} | {strategy} | {ratio:.2f} | {our_rate:,.0f} | {their_rate:,.0f} "
                f"| {our_loss:.5f} | {reference_loss:.5f} | {their_loss:.5f} |"
            )
            print(lines[-1], flush=True)
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="of a block that is timed")
    parser.add_argument("--pairs", type=int, default=5, help="blocks of each side")
    parser.add_argument("--run-steps", type=int, default=200, help="of the run behind a loss")
    parser.add_argument("--rows", type=int, default=4_000, help="to learn from")
    parser.add_argument("--no-page", action="store_true", help="print the table alone")
    options = parser.parse_args(arguments)
    found = works(options.rows)
    lengths = found[0].train.lengths.tolist()
    batches = [lengths[at : at + ROWS_PER_STEP] for at in range(0, len(lengths), ROWS_PER_STEP)]
    fill = sum(lengths) / sum(len(batch) * max(batch) for batch in batches)
    lines = [
        "# Ragged fine-tuning against transformers' Trainer",
        "",
        f"{processor()}, {torch.get_num_threads()} threads, torch {installed('torch')}, "
        f"transformers {installed('transformers')}",
        "",
        f"{datetime.date.today()}, `python -m benchmarks.bench_finetune`. BERT of 4 layers of 256 "
        f"and {VOCAB_SIZE:,} tokens, {ROWS_PER_STEP} rows of 6 to {MOST_TOKENS} tokens in a step "
        f"(fill {fill:.2f} where batches are random). Real tokens a second; the ratio is the "
        f"median of {options.pairs} pairs of blocks of {options.steps} steps. Losses are those of "
        f"held-out rows after {options.run_steps} steps; the samplers differ, so theirs may too.",
        "",
        "| work | their sampler | ratio | ours, tokens/s | theirs, tokens/s | our loss "
        "| our reference path's | theirs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work in found:
        lines += compare(
            work, steps=options.steps + WARMUP, pairs=options.pairs, run_steps=options.run_steps
        )
    if not options.no_page:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")


@pytest.mark.parametrize("work", works(64), ids=lambda work: work.name)
def test_reference_path_learns_the_same(work: Work, tmp_path: Path) -> None:
    start = start_of(work, tmp_path / "start")

    found = loss(ours(work, start, tmp_path / "ours", steps=4)[1], work)
    with use_backend("reference"):
        expected = loss(ours(work, start, tmp_path / "reference", steps=4)[1], work)

    assert found == pytest.approx(expected, rel=1e-3)


if __name__ == "__main__":
    main()
