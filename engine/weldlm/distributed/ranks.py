"""Which of the processes this is, and what all of them have to agree on.

Numbers and verdicts go over the host, in a group of their own, so that none of them waits for the
device. With one process nothing is sent at all.
"""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from weldlm.interrupt import StopRequest
from weldlm.train_settings import Parallel

__all__ = ["Ranks", "StopVote", "join_ranks"]

T = TypeVar("T")

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(days=7)  # for the first rank, which may have a corpus to prepare


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among all of a run; the only one where nothing is said."""

    rank: int = 0
    world_size: int = 1
    control: dist.ProcessGroup | None = None  # on the host; None where there is one process

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.rank == 0

    def gather(self, *values: float) -> list[list[float]]:
        """Returns what each rank gives, in their order; all ranks give as many numbers."""
        if self.world_size == 1:
            return [list(values)]
        given = torch.tensor(values, dtype=torch.float64)
        found = [torch.empty_like(given) for _ in range(self.world_size)]
        dist.all_gather(found, given, group=self.control)
        return [row.tolist() for row in found]

    def total(self, *values: float) -> list[float]:
        """Returns the sum over all ranks of each number, the same on all of them."""
        return [sum(column) for column in zip(*self.gather(*values), strict=True)]

    def mean(self, value: float) -> float:
        """Returns the mean over all ranks, the same on all of them."""
        return self.total(value)[0] / self.world_size

    def collect(self, value: T) -> list[T]:
        """Returns what each rank gives, in their order, of a kind that can be sent."""
        found: list[Any] = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(found, value, group=self.control)
        return found

    def of_first(self, value: float) -> float:
        """Returns what the first rank gives."""
        return self.gather(value)[0][0]

    def new_group(self) -> dist.ProcessGroup | None:
        """Returns another group on the host, for what a thread sends; None with one process.

        All ranks call it; whoever asked destroys it.
        """
        if self.world_size == 1:
            return None
        group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=_PATIENCE)
        return group

    def ask_first(self, act: Callable[[], T]) -> T:
        """Acts on the first rank only; returns what that gives, or raises its error, on all.

        What is returned must be of a kind that can be sent to other processes.
        """
        if self.world_size == 1:
            return act()
        result, problem = _attempt(act) if self.is_first else (None, None)
        answer: list[Any] = [result, _sendable(problem)]
        dist.broadcast_object_list(answer, src=0, group=self.control)
        if not self.is_first:
            result, problem = answer
        if problem is not None:
            raise problem
        return result  # type: ignore[return-value]


@dataclass(slots=True)
class StopVote:
    """A request to stop that reached any rank, once all of them know of it."""

    request: StopRequest  # what reached this one
    ranks: Ranks
    signal_number: int | None = None

    def poll(self) -> bool:
        """Asks all ranks, which therefore call this at the same places."""
        numbers = self.ranks.gather(self.request.signal_number or 0)
        self.signal_number = max(int(number) for (number,) in numbers) or None
        return bool(self)

    def __bool__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def join_ranks(device: torch.device | str, parallel: Parallel = "auto") -> Iterator[Ranks]:
    """Yields this process among those of its run.

    A process group that is there is used as it is; else one is made where torchrun's environment
    asks for several processes, and ends with the block.

    Args:
        device: that trains; its kind decides how gradients travel.
        parallel: "none" leaves every process alone.

    Raises:
        ValueError: the environment says only a part of what is needed.
    """
    if parallel == "none":
        yield Ranks()
        return
    is_ours = not dist.is_initialized() and _asks_for_ranks()
    if is_ours:
        _join(torch.device(device))
    try:
        if not dist.is_initialized() or dist.get_world_size() == 1:
            yield Ranks()
            return
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield Ranks(dist.get_rank(), dist.get_world_size(), control)
        if not is_ours:
            dist.destroy_process_group(control)
    finally:
        if is_ours:
            dist.destroy_process_group()


def _asks_for_ranks() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _join(device: torch.device) -> None:
    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set; "
            f"expected all of {', '.join(_ENVIRONMENT)}: start with torchrun, or unset WORLD_SIZE"
        )
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def _attempt(act: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return act(), None
    except Exception as error:
        return None, error


def _sendable(error: Exception | None) -> Exception | None:
    """The error, or one that says the same where it cannot be rebuilt elsewhere."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
