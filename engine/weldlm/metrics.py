"""metrics.jsonl: one line for each step and each validation of a run."""

import json
import os
from pathlib import Path
from typing import Any, TextIO

from weldlm.atomic_file import replace_text
from weldlm.callbacks import EvalReport, StepReport

__all__ = ["MetricsFile"]


class MetricsFile:
    """Appends lines; what goes beyond the step a run resumes from is cut off first."""

    def __init__(self, path: Path | None, *, step: int, evaluated_step: int) -> None:
        """Opens the file of a run that has done `step` steps and validated `evaluated_step`.

        Where `path` is None, as on ranks behind the first, the lines go nowhere.
        """
        self._path = path
        self._file: TextIO | None = None
        self.cut(step, evaluated_step)

    def cut(self, step: int, evaluated_step: int) -> None:
        """Drops what lies beyond a checkpoint to which the run goes back."""
        self.close()
        if self._path is not None:
            _cut(self._path, step, evaluated_step)
            self._file = self._path.open("a", encoding="utf-8")

    def add_step(self, report: StepReport) -> None:
        self._add(
            step=report.step,
            loss=report.loss,
            lr=report.lr,
            grad_norm=report.grad_norm,
            tokens=report.tokens,
            tokens_per_second=round(report.tokens_per_second, 1),
            elapsed=round(report.elapsed, 4),
            data_seconds=round(report.data_seconds, 6),
            padding_share=report.padding_share,
            peak_memory_gib=round(report.peak_memory / 2**30, 3),
            **({} if report.mfu is None else {"mfu": round(report.mfu, 4)}),
        )

    def add_eval(self, report: EvalReport) -> None:
        self._add(
            step=report.step,
            valid_loss=report.loss,
            valid_bits_per_byte=report.bits_per_byte,
            **{f"valid_{name}": value for name, value in report.metrics.items()},
        )

    def sync(self) -> None:
        """Makes the lines survive a power failure."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add(self, **values: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()


def _cut(path: Path, step: int, evaluated_step: int) -> None:
    """Drops the lines after `step`, and a last line that a kill left unfinished."""
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start}); expected the JSON lines of this run; mend "
            "it, or remove it to go on without what it says of earlier steps"
        ) from error
    kept = [line for line in lines if _is_kept(line, step, evaluated_step)]
    replace_text(path, "".join(f"{line}\n" for line in kept))


def _is_kept(line: str, step: int, evaluated_step: int) -> bool:
    try:
        values = json.loads(line)
        return int(values["step"]) <= (evaluated_step if "valid_loss" in values else step)
    except (ValueError, KeyError, TypeError):
        return False
