"""Stopping a run with Ctrl-C or SIGTERM without losing work."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["StopRequest", "Terminated", "catch_signals", "catch_sigterm"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM ended the program, by the way that Ctrl-C goes."""


@dataclass(slots=True)
class StopRequest:
    """Which signal asked the run to stop, once one did."""

    signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Turns the first SIGINT or SIGTERM into a request that the run polls.

    The second one ends the program at once, with KeyboardInterrupt or exit code 143. Handlers are
    installed in the main thread only (Python allows no other) and restored at the end.
    """
    request = StopRequest()

    def on_signal(signal_number: int, _frame: FrameType | None) -> None:
        if not request:
            request.signal_number = signal_number
        elif signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + signal_number)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def catch_sigterm() -> Iterator[None]:
    """Raises `Terminated` in the main thread on SIGTERM, so that what is half done is put away."""

    def on_signal(_signal_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
