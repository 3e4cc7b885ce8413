"""Times GPU work with a cold L2 cache, all sides in turn, and the ceilings of the same machine."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Ceilings", "Spread", "ceilings", "in_turn", "peak_bytes"]

_CACHE_BYTES = 256 << 20  # more than any L2 cache
_COPY_BYTES = 1 << 30
_MATRIX_SIZE = 8_192
_WARMUP = 3
Side = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of one side: median and the quantiles at 20 % and 80 %."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the machine reaches in this run."""

    bytes_per_second: float  # device memory, a copy's reads and writes together
    flops_per_second: float  # bf16 matrix product


def in_turn(sides: Mapping[str, Side], *, rounds: int) -> dict[str, Spread]:
    """Times each side once a round, after a write that evicts the L2 cache.

    The write also keeps the GPU busy while the host launches, so the cost of a launch does not
    show.
    """
    evicted = torch.empty(_CACHE_BYTES // 4, dtype=torch.int32, device="cuda")
    for side in sides.values():
        for _ in range(_WARMUP):
            side()
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {n: [] for n in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            evicted.zero_()
            begin.record()
            side()
            end.record()
            events[name].append((begin, end))
    torch.cuda.synchronize()
    return {
        name: _spread([begin.elapsed_time(end) for begin, end in pairs])
        for name, pairs in events.items()
    }


def ceilings() -> Ceilings:
    """Copies 1 GiB and multiplies two bf16 matrices of 8192 x 8192."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    matrix = torch.randn(_MATRIX_SIZE, _MATRIX_SIZE, dtype=torch.bfloat16, device="cuda")
    sides = {"copy": lambda: target.copy_(source), "product": lambda: matrix @ matrix}
    times = in_turn(sides, rounds=20)
    return Ceilings(
        bytes_per_second=2 * _COPY_BYTES / times["copy"].median * 1e3,
        flops_per_second=2 * _MATRIX_SIZE**3 / times["product"].median * 1e3,
    )


def peak_bytes(side: Side) -> int:
    """The most device memory that `side` holds at once, beyond what is held before it."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    side()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _spread(times: list[float]) -> Spread:
    low, *_, high = statistics.quantiles(times, n=5)
    return Spread(statistics.median(times), low, high)
