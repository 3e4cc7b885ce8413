"""A program that ends itself while it forces something to the disk."""

import os
import signal
from collections.abc import Callable
from itertools import count

__all__ = ["kill_at_sync", "kill_this"]


def kill_this() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_sync(number: int, kill: Callable[[], None] = kill_this) -> None:
    """Replaces os.fsync by one that kills the program when it is called for the n-th time."""
    sync, calls = os.fsync, count(1)

    def counted(descriptor: int) -> None:
        if next(calls) == number:
            kill()
        sync(descriptor)

    os.fsync = counted  # type: ignore[assignment]  # the program passes descriptors only
