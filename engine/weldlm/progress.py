"""How a run shows itself: a bar on a terminal, plain lines elsewhere; always to stderr."""

import statistics
import sys
import time
from collections import deque
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from weldlm.callbacks import Callback, EvalReport, StartReport, StepReport, TrainResult

__all__ = ["PlainProgress", "ProgressBar", "progress_callback"]

_PACE_STEPS = 20  # steps over which speed and remaining time are taken


def progress_callback(stream: TextIO | None = None) -> Callback:
    """Returns a bar where `stream` (stderr where None) is a terminal, plain lines elsewhere."""
    stream = stream or sys.stderr
    return ProgressBar(stream) if stream.isatty() else PlainProgress(stream)


class PlainProgress(Callback):
    """Writes a line at the first step, every few seconds, and for everything else that happens."""

    def __init__(self, stream: TextIO, *, seconds: float = 5.0) -> None:
        self._stream = stream
        self._seconds = seconds
        self._last_line = -float("inf")
        self._pace = _Pace()

    def on_start(self, report: StartReport) -> None:
        self._write(_describe_start(report))

    def on_step(self, report: StepReport) -> None:
        self._pace.add(report)
        now = time.monotonic()
        if now - self._last_line >= self._seconds or report.step == report.num_steps:
            self._last_line = now
            self._write(f"step {report.step}/{report.num_steps}  {self._pace.describe(report)}")

    def on_eval(self, report: EvalReport) -> None:
        self._write(_describe_eval(report))

    def on_save(self, checkpoint: Path) -> None:
        self._write(f"saved {checkpoint}")

    def on_end(self, result: TrainResult | None) -> None:
        if result is not None and result.is_interrupted:
            self._write(_describe_interruption(result))

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class ProgressBar(Callback):
    """Draws one bar; validations and checkpoints scroll by above it."""

    def __init__(self, stream: TextIO) -> None:
        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.description}", markup=False),
            console=Console(file=stream),
            expand=True,
        )
        self._task: TaskID | None = None
        self._pace = _Pace()

    def on_start(self, report: StartReport) -> None:
        self._print(_describe_start(report))
        self._task = self._bar.add_task(
            "waiting for the first step", total=report.num_steps, completed=report.first_step
        )
        self._bar.start()

    def on_step(self, report: StepReport) -> None:
        assert self._task is not None
        self._pace.add(report)
        description = self._pace.describe(report)
        self._bar.update(self._task, completed=report.step, description=description)

    def on_eval(self, report: EvalReport) -> None:
        self._print(_describe_eval(report))

    def on_save(self, checkpoint: Path) -> None:
        self._print(f"saved {checkpoint}")

    def on_end(self, result: TrainResult | None) -> None:
        self._bar.stop()
        if result is not None and result.is_interrupted:
            self._print(_describe_interruption(result))

    def _print(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Pace:
    """The pace of the last steps; a median, so that a pause in one of them does not show."""

    def __init__(self) -> None:
        self._step_seconds: deque[float] = deque(maxlen=_PACE_STEPS)

    def add(self, report: StepReport) -> None:
        self._step_seconds.append(report.step_seconds)

    def describe(self, report: StepReport) -> str:
        step_seconds = statistics.median(self._step_seconds)
        speed = report.tokens_per_second * report.step_seconds / step_seconds
        left = _clock((report.num_steps - report.step) * step_seconds)
        return f"loss {report.loss:.4f}  {speed:,.0f} tokens/s  {left} left"


def _describe_start(report: StartReport) -> str:
    settings = report.settings
    how = f"resumed from {report.resumed_from}, " if report.resumed_from else ""
    return (
        f"{how}{report.num_parameters:,} parameters on {report.device} in {settings.dtype}, steps "
        f"{report.first_step} to {report.num_steps} of {report.tokens_per_step:,.0f} tokens: about "
        f"{report.flops:.2g} operations, at least {report.memory_bytes / 2**30:.2f} GiB"
    )


def _describe_eval(report: EvalReport) -> str:
    bits = report.bits_per_byte
    rest = "" if bits is None else f"  {bits:.4f} bits/byte"
    found = "".join(f"  {name} {value:.4f}" for name, value in report.metrics.items())
    return f"step {report.step}  validation loss {report.loss:.4f}{rest}{found}"


def _describe_interruption(result: TrainResult) -> str:
    return (
        f"interrupted after step {result.step} of {result.num_steps}; "
        f"resume from {result.checkpoint}"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
