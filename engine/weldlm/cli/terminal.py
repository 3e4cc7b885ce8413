"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

__all__ = ["StepBar"]

_SECONDS_BETWEEN_LINES = 5.0


class StepBar:
    """Shows how far a counted task is; `update` takes done and total."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._bar = _TerminalBar(label) if sys.stderr.isatty() else _PlainLines(label)

    def __enter__(self) -> Self:
        return self

    def update(self, done: int, total: int) -> None:
        self._bar.update(done, total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()


class _TerminalBar:
    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._progress.start()
        self._task = self._progress.add_task(label, total=None)

    def update(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def close(self) -> None:
        self._progress.stop()


class _PlainLines:
    def __init__(self, label: str) -> None:
        self._label = label
        self._next = time.monotonic() + _SECONDS_BETWEEN_LINES

    def update(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next += _SECONDS_BETWEEN_LINES
            print(f"{self._label}: {done}/{total}", file=sys.stderr, flush=True)

    def close(self) -> None:
        pass
