"""Checks operations on a GPU against the fp64 reference, in processes that compile side by side."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import torch

from benchmarks.gpu.case import Check, all_checks
from tests.kernels.oracle import assert_equals_reference, outputs_and_gradients

__all__ = ["Verdict", "check", "check_all"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found."""

    name: str
    dtype: str
    fault: str  # empty if all is well


def check(case: Check, dtype: torch.dtype, device: torch.device) -> Verdict:
    """Compares outputs and gradients with the reference, and a second run with the first by bits.

    On a CPU the kernels run in Triton's interpreter.
    """
    try:
        work = case.make(dtype, device)
        assert_equals_reference(work.ours, work.inputs, backend="gpu")
        first, second = (
            outputs_and_gradients(work.ours, work.inputs, backend="gpu") for _ in range(2)
        )
        differing = [name for name in first if not _is_bit_equal(first[name], second[name])]
        fault = f"a second run differs in {', '.join(differing)}" if differing else ""
    except Exception as error:
        # a kernel that fails to compile or to launch is a finding as well, and the others go on
        fault = f"{type(error).__name__}: {error}"
    return Verdict(case.name, str(dtype).removeprefix("torch."), fault)


def check_all(workers: int) -> Iterator[Verdict]:
    """Every check in every dtype on the GPU, as each one ends."""
    tasks = [(case.name, dtype) for case in all_checks() for dtype in case.dtypes]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for done in as_completed(pool.submit(_check_on_gpu, *task) for task in tasks):
            yield done.result()


def _check_on_gpu(name: str, dtype: torch.dtype) -> Verdict:
    (case,) = (case for case in all_checks() if case.name == name)
    return check(case, dtype, torch.device("cuda"))


def _is_bit_equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(first.nan_to_num(), second.nan_to_num())
