import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks import gpu_report
from benchmarks.gpu import stopwatch
from benchmarks.gpu.case import Check, Cost, Goal, Pass, Timing, Work, all_checks, all_timings
from benchmarks.gpu.check import Verdict, check
from benchmarks.gpu.clock import Ceilings, Spread
from benchmarks.gpu.stopwatch import OURS, sides, time_case
from tests.kernels.interpreter import interpret
from weldlm_kernels import use_backend
from weldlm_kernels.backend import choose

CPU = torch.device("cpu")
CHECKS = {case.name: case for case in all_checks()}
TIMINGS = {timing.name: timing for timing in all_timings()}
QUICK = ["rotary halves 80 of which 32", "rms_norm odd", "layer_norm 1"]


def test_names_are_unique() -> None:
    assert len(CHECKS) == len(list(all_checks()))
    assert len(TIMINGS) == len(list(all_timings()))


@pytest.mark.parametrize("name", QUICK)
def test_checks_pass_in_the_interpreter(name: str) -> None:
    verdict = check(CHECKS[name], torch.float32, CPU)

    assert verdict.fault == ""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", CHECKS.values(), ids=CHECKS.keys())
def test_every_check_passes_in_the_interpreter(case: Check, dtype: torch.dtype) -> None:
    assert check(case, dtype, CPU).fault == ""


def check_of(call: Callable[[Tensor], Tensor]) -> Verdict:
    def make(dtype: torch.dtype, _: torch.device) -> Work:
        return Work({"x": torch.ones(3, dtype=dtype)}, call)

    return check(Check("made up", make), torch.float32, CPU)


def test_check_finds_a_wrong_gradient() -> None:
    verdict = check_of(lambda x: x * (3 if choose("rotary", x) == "gpu" else 2))

    assert "max error" in verdict.fault


def test_check_finds_a_run_that_differs() -> None:
    runs = itertools.count()

    verdict = check_of(
        lambda x: x + next(runs) * 1e-7 if choose("rotary", x) == "gpu" else x.clone()
    )

    assert verdict.fault == "a second run differs in output 0"


@pytest.mark.parametrize("timing", TIMINGS.values(), ids=TIMINGS.keys())
def test_peers_give_our_result(timing: Timing) -> None:
    work = timing.make(torch.float32, CPU, True)

    with interpret(), use_backend("gpu"):
        found = {part.part: sides(work, part.part) for part in timing.passes}

    for steps, absent in found.values():
        assert absent == {}
        assert steps.keys() == {OURS, *work.peers, *work.companions}


def test_peer_with_another_result_is_left_out() -> None:
    inputs: dict[str, Tensor | None] = {"x": torch.ones(3)}
    work = Work(inputs, lambda x: x * 2, {"right": lambda x: x + x, "wrong": lambda x: x * 3})

    steps, absent = sides(work, "backward")

    assert steps.keys() == {OURS, "right"}
    assert absent == {"wrong": "result 0 differs by 1 at a magnitude of 2"}


def test_row_states_the_share_of_the_limit_and_whether_the_goal_is_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two_ms = Spread(median=2.0, low=2.0, high=2.0)
    monkeypatch.setattr(stopwatch, "in_turn", lambda steps, **_: dict.fromkeys(steps, two_ms))
    monkeypatch.setattr(stopwatch, "peak_bytes", lambda _: 0)
    cost = Cost(flops=4e9, bytes=1e6)
    passes = (
        Pass("forward", cost, Goal("TFLOP/s", 1.5, 3.0)),
        Pass("backward", cost, Goal("ms", 1.5, 1.0)),
    )
    timing = Timing("double", lambda *_: Work({"x": torch.ones(3)}, lambda x: x * 2), passes)

    forward, backward = time_case(timing, Ceilings(1e12, 8e12), CPU)

    assert forward.teraflops == pytest.approx(2.0)
    assert forward.share_of_limit == pytest.approx(0.25)
    assert (forward.is_reached, backward.is_reached) == (True, False)


def test_roofline_names_every_case_without_a_gpu() -> None:
    page = "\n".join(gpu_report.roofline_page())

    assert "No GPU has run these kernels yet" in page
    assert all(f"| {name} |" in page for name in TIMINGS)


def test_committed_page_is_that_of_the_cases_or_of_a_gpu() -> None:
    page = (gpu_report.RESULTS / "gpu.md").read_text(encoding="utf-8")

    assert page.splitlines() == gpu_report.roofline_page() or "checks against fp64 pass" in page
