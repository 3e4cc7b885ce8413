"""What Trainer adds to a step: the same steps by Trainer and by a bare loop, in turns.

python -m benchmarks.bench_training_overhead    # writes benchmarks/results/training_overhead.md

After each step of Trainer the bare loop takes the same step on the same rows with a copy of the
model: forward, backward, clipping, a fused AdamW step at the same rate, and the loss as a number.
Its rows are drawn beforehand; Trainer draws its own, validates nothing, and writes metrics.jsonl.
The losses of both are equal bit for bit. Aim: at most 1.01.
"""

import argparse
import copy
import datetime
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from benchmarks.report import PACKAGES, installed, processor
from weldlm.callbacks import Callback, StepReport
from weldlm.config import preset
from weldlm.data import write_shards
from weldlm.heads import CausalLM
from weldlm.objectives import CausalLMObjective, MicroBatch
from weldlm.optim import build_optimizer, set_learning_rate
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.training_data import TokenRows

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results" / "training_overhead.md"
VOCAB_SIZE = 4_096
WARMUP = 5  # steps that are not counted
# changes of gpt2-tiny, rows of a step, tokens of a row
SIZES: dict[str, tuple[dict[str, Any], int, int]] = {
    "2 x 128, 4 rows of 64": ({"num_layers": 2, "hidden_size": 128, "head_dim": 32,
                               "intermediate_size": 512}, 4, 64),
    "4 x 256, 8 rows of 128": ({}, 8, 128),
}  # fmt: skip


@dataclass
class BareLoop(Callback):
    """Takes each step after Trainer has, and times both."""

    model: CausalLM
    rows: Sequence[list[MicroBatch]]
    optimizer: torch.optim.Optimizer
    begin: float = 0.0
    trainer_seconds: list[float] = field(default_factory=list)
    bare_seconds: list[float] = field(default_factory=list)

    def on_step(self, report: StepReport) -> None:
        now = time.perf_counter()
        loss = self.step(self.rows[report.step - 1], report.lr)
        done = time.perf_counter()
        assert loss == report.loss, (report.step, loss, report.loss)
        if report.step > WARMUP:
            self.trainer_seconds.append(now - self.begin)
            self.bare_seconds.append(done - now)
        self.begin = time.perf_counter()

    def step(self, micro_batches: list[MicroBatch], lr: float) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        num_labels = sum(micro_batch.num_labels for micro_batch in micro_batches)
        losses = []
        for micro_batch in micro_batches:
            loss = self.model(*micro_batch.arguments)[0] / num_labels
            loss.backward()
            losses.append(loss.detach())
        clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        return float(torch.stack(losses).sum())


def compare(size: str, *, steps: int) -> tuple[list[float], list[float]]:
    """Returns the seconds of each step of Trainer and of the bare loop."""
    changes, num_rows, row_length = SIZES[size]
    settings = TrainSettings(
        steps=steps,
        rows_per_step=num_rows,
        row_length=row_length,
        dtype="float32",
        save_every=steps,
    )
    generator = np.random.default_rng(0)
    lengths = generator.integers(20, 400, size=steps * num_rows)
    documents = [generator.integers(VOCAB_SIZE, size=length) for length in lengths]
    torch.manual_seed(0)
    model = CausalLM(preset("gpt2-tiny", vocab_size=VOCAB_SIZE, **changes))
    with tempfile.TemporaryDirectory(prefix="weldlm-overhead-") as folder:
        shards = write_shards(Path(folder, "data"), documents, vocab_size=VOCAB_SIZE)
        data = TokenRows(shards, CausalLMObjective(), settings, settings.seed)
        twin = copy.deepcopy(model).train()
        bare = BareLoop(
            twin,
            [data.micro_batches(step) for step in range(steps)],
            build_optimizer(twin, settings),
        )
        Trainer(model, shards, settings, Path(folder, "out"), callbacks=[bare]).fit()
    return bare.trainer_seconds, bare.bare_seconds


def row(size: str, trainer_seconds: list[float], bare_seconds: list[float]) -> str:
    ours, bare = statistics.median(trainer_seconds), statistics.median(bare_seconds)
    ratios = [one / other for one, other in zip(trainer_seconds, bare_seconds, strict=True)]
    return (
        f"| {size} | {statistics.median(ratios):.3f} | {ours * 1e3:.2f} | {bare * 1e3:.2f} "
        f"| {len(ratios)} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="of each size")
    parser.add_argument("--no-page", action="store_true", help="print the table alone")
    options = parser.parse_args(arguments)
    lines = [
        "# What Trainer adds to a step",
        "",
        f"{processor()}, {torch.get_num_threads()} threads, "
        + ", ".join(f"{name} {installed(name)}" for name in PACKAGES if name == "torch"),
        "",
        f"{datetime.date.today()}, `python -m benchmarks.bench_training_overhead`. Each step of "
        "Trainer is followed by the same one of a bare loop, with an equal loss; the ratio is the "
        "median over the pairs.",
        "",
        "| GPT-2 | Trainer / bare loop | Trainer, ms | bare loop, ms | pairs |",
        "|---|---|---|---|---|",
    ]
    for size in SIZES:
        lines.append(row(size, *compare(size, steps=options.steps + WARMUP)))
        print(lines[-1], flush=True)
    if not options.no_page:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")


@pytest.mark.parametrize("size", SIZES)
def test_both_take_the_same_steps(size: str) -> None:
    trainer_seconds, bare_seconds = compare(size, steps=WARMUP + 2)

    assert len(trainer_seconds) == len(bare_seconds) == 2


if __name__ == "__main__":
    main()
