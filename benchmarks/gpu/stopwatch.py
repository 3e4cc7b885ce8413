"""Runs one timing: our side and every peer that gives the same result."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.gpu.case import Pass, Timing, Work
from benchmarks.gpu.clock import Ceilings, Spread, in_turn, peak_bytes

__all__ = ["OURS", "Row", "sides", "time_case"]

OURS = "weldlm"
_ROUNDS = 15
# of the largest value: two bf16 results that are right differ by less, wrong ones by far more
_AGREEMENT = 0.05
Step = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class Row:
    """What one pass of one case took."""

    name: str
    part: str
    times: dict[str, Spread]  # ours first
    peak: dict[str, int]  # bytes beyond the inputs
    share_of_limit: float  # the roofline's time over ours
    teraflops: float
    share_of_copy: float  # bytes that must move, over those that a copy moves in that time
    must: str  # the goal in words, empty without one
    is_reached: bool | None
    absent: dict[str, str] = field(default_factory=dict)  # peers that could not run, and why


def time_case(timing: Timing, limits: Ceilings, device: torch.device) -> list[Row]:
    """Times each pass of a case on a GPU; results are compared before the clock starts."""
    work = timing.make(torch.bfloat16, device, False)
    rows = []
    for part in timing.passes:
        steps, absent = sides(work, part.part)
        times = in_turn(steps, rounds=_ROUNDS)
        peak = {name: peak_bytes(step) for name, step in steps.items()}
        rows.append(_row(timing.name, part, times, peak, absent, limits))
    return rows


def sides(work: Work, part: str) -> tuple[dict[str, Step], dict[str, str]]:
    """Our step and those of the peers that agree with it, and why the others are left out."""
    steps = {OURS: _step(work.ours, work, part)}
    expected = steps[OURS]()
    absent = {}
    for name, peer in work.peers.items():
        try:
            step = _step(peer, work, part)
            fault = _disagreement(step(), expected)
        except Exception as error:
            # a peer that does not take this case leaves its column empty, with the reason
            fault = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if fault:
            absent[name] = fault
        else:
            steps[name] = step
    steps |= {name: _step(other, work, part) for name, other in work.companions.items()}
    return steps, absent


def _step(call: Callable[..., object], work: Work, part: str) -> Step:
    inputs = {
        name: x if x is None or not x.is_floating_point() else x.detach().requires_grad_()
        for name, x in work.inputs.items()
    }
    leaves = [x for x in inputs.values() if x is not None and x.requires_grad]

    def forward() -> tuple[Tensor, ...]:
        result = call(**inputs)
        return result if isinstance(result, tuple) else (result,)  # type: ignore[return-value]

    def gradients(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        ones = [torch.ones_like(output) for output in outputs]
        found = torch.autograd.grad(outputs, leaves, ones, retain_graph=True, allow_unused=True)
        return tuple(gradient for gradient in found if gradient is not None)

    if part == "forward":
        return torch.no_grad()(forward)
    if part == "backward":
        outputs = forward()
        return lambda: gradients(outputs)

    def both() -> tuple[Tensor, ...]:
        outputs = forward()
        return *(output.detach() for output in outputs), *gradients(outputs)

    return both


def _disagreement(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> str:
    if len(actual) != len(expected):
        return f"{len(actual)} results where we have {len(expected)}"
    for place, (a, b) in enumerate(zip(actual, expected, strict=True)):
        error = (a.float() - b.float()).abs().max().item()
        magnitude = b.float().abs().max().item()
        if not error <= _AGREEMENT * magnitude:
            return f"result {place} differs by {error:.3g} at a magnitude of {magnitude:.3g}"
    return ""


def _row(
    name: str,
    part: Pass,
    times: dict[str, Spread],
    peak: dict[str, int],
    absent: dict[str, str],
    limits: Ceilings,
) -> Row:
    seconds = times[OURS].median / 1e3
    reached = {
        "TFLOP/s": part.cost.flops / seconds / 1e12,
        "share of copy": part.cost.bytes / seconds / limits.bytes_per_second,
        "ms": seconds * 1e3,
    }
    goal = part.goal
    is_reached = None
    if goal is not None:
        is_lower_better = goal.unit == "ms"
        is_reached = (reached[goal.unit] <= goal.must) == is_lower_better
    return Row(
        name,
        part.part,
        times,
        peak,
        part.cost.limit(limits.flops_per_second, limits.bytes_per_second) / seconds,
        reached["TFLOP/s"],
        reached["share of copy"],
        "" if goal is None else f"{goal.must:g} {goal.unit} (aim {goal.aim:g})",
        is_reached,
        absent,
    )
