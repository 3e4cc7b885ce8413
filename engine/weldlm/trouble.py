"""Steps that must not count: a loss or gradient that is not finite, a loss that leaps.

What then happens is a setting: stop, skip the step, or roll back to the last checkpoint and skip
the step when it comes again. Which rows it had goes to troubles.jsonl beside the metrics. The
verdict hangs on the loss and the gradient norm of the whole step alone, so every rank reaches it.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weldlm.train_settings import OnTrouble, TrainSettings

__all__ = ["MOST_SKIPS", "REMEMBERED_LOSSES", "Trouble", "dump_trouble", "find_trouble"]

MOST_SKIPS = 10  # steps in a row that may be skipped; what goes on so is no accident
REMEMBERED_LOSSES = 32  # before a step, whose median a leap is measured against
_FEWEST_LOSSES = 8  # known before anything is called a leap


@dataclass(frozen=True, slots=True)
class Trouble:
    """A step whose gradient must not be used."""

    step: int  # counted from 1
    what: str
    action: OnTrouble
    advice: str


def find_trouble(
    step: int, loss: float, grad_norm: float, before: Sequence[float], settings: TrainSettings
) -> Trouble | None:
    """Judges a step by its loss and gradient norm, and the losses of the steps before."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        what = f"the loss is {loss} and the gradient norm {grad_norm}"
        advice = "expected finite numbers: try a lower lr or clip_norm, or dtype float32"
        return Trouble(step, what, settings.on_not_finite, advice)
    if settings.on_spike == "ignore" or len(before) < _FEWEST_LOSSES:
        return None
    usual = statistics.median(before)
    if loss <= settings.spike_ratio * usual:
        return None
    what = f"the loss leaps to {loss:.4f} from {usual:.4f}"
    return Trouble(step, what, settings.on_spike, "try a lower lr, or look at the rows")


def dump_trouble(out: Path, trouble: Trouble, sample_ids: Sequence[Sequence[int]]) -> Path:
    """Appends what happened, and the sample ids of each micro-batch, to troubles.jsonl."""
    path = out / "troubles.jsonl"
    row = {
        "step": trouble.step,
        "what": trouble.what,
        "action": trouble.action,
        "sample_ids": sample_ids,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return path
