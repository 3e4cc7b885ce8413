"""What a GPU run checks and what it times: an operation, its peers and the least that it must move.

The modules <op>_cases.py beside this one each have `checks()` and `timings()`.
"""

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

import benchmarks.gpu

__all__ = [
    "Check",
    "Cost",
    "Goal",
    "Pass",
    "Timing",
    "Work",
    "all_checks",
    "all_timings",
    "offsets_of",
]

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True, slots=True)
class Work:
    """One operation on given tensors, done by us and by others.

    Each callable takes `inputs` by name and returns a tensor or a tuple of tensors; the first one
    is compared between peers. Inputs of a floating-point dtype get gradients.
    """

    inputs: dict[str, Tensor | None]
    ours: Callable[..., Any]
    peers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    # timed beside the others though they do another work, such as the same without an option
    companions: dict[str, Callable[..., Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """A case whose outputs and gradients must equal the fp64 reference, bit-equal when repeated."""

    name: str
    make: Callable[[torch.dtype, torch.device], Work]
    dtypes: tuple[torch.dtype, ...] = DTYPES


@dataclass(frozen=True, slots=True)
class Cost:
    """The least that a kernel must do: floating-point operations and bytes of device memory."""

    flops: float
    bytes: float

    def limit(self, flops_per_second: float, bytes_per_second: float) -> float:
        """Seconds that no kernel can stay below at these rates (roofline)."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a timing must reach and what it aims at, in its unit."""

    unit: Literal["TFLOP/s", "share of copy", "ms"]
    must: float
    aim: float


@dataclass(frozen=True, slots=True)
class Pass:
    """What is timed of a work, what it costs and what it should reach."""

    part: Literal["forward", "backward", "forward and backward"]
    cost: Cost
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """A case that is timed in bfloat16."""

    name: str
    # the flag asks for a tiny version of the same work, for a run without a GPU
    make: Callable[[torch.dtype, torch.device, bool], Work]
    passes: tuple[Pass, ...]


def all_checks() -> Iterator[Check]:
    for module in _case_modules():
        yield from module.checks()


def all_timings() -> Iterator[Timing]:
    for module in _case_modules():
        yield from module.timings()


def offsets_of(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Cumulative lengths [B + 1], int32."""
    return torch.tensor([0, *lengths]).cumsum(0).int().to(device)


def _case_modules() -> list[Any]:
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.gpu.__path__))
    return [import_module(f"benchmarks.gpu.{n}") for n in names if n.endswith("_cases")]
