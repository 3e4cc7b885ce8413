"""The compiled CPU kernels share torch's threads and start none of their own."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from weldlm_kernels import _cpu

OPENMP_RUNTIMES = """
import re
from pathlib import Path

def openmp_runtimes():
    maps = Path("/proc/self/maps").read_text()
    return sorted(set(re.findall(r"/\\S*/lib(?:gomp|iomp5|omp)[-.]\\S*", maps)))
"""

TORCH_AND_NUMBA = """
import json, numba, numpy as np, torch
from weldlm_kernels import _cpu

@numba.njit(nogil=True)
def total(x):
    sum = 0.0
    for i in range(x.size):
        sum += x[i]
    return sum

torch.set_num_threads(2)
torch.randn(400, 400) @ torch.randn(400, 400)
logits, targets = torch.randn(64, 4096), torch.zeros(64, dtype=torch.int64)
losses = torch.zeros(64, dtype=torch.float64)
_cpu.cross_entropy(
    logits=logits.data_ptr(), targets=targets.data_ptr(), losses=losses.data_ptr(),
    num_rows=64, vocab_size=4096, row_stride=4096,
)
print(json.dumps({"loaded": openmp_runtimes(), "used": _cpu.thread_runtime(),
                  "sum": total(np.ones(1000))}))
"""

NO_TORCH = """
import ctypes, json, sys
from importlib import machinery, util

spec = util.spec_from_file_location("_cpu", sys.argv[1])
_cpu = util.module_from_spec(spec)
spec.loader.exec_module(_cpu)
logits, losses = (ctypes.c_float * 200_000)(), (ctypes.c_double * 2)()
targets = (ctypes.c_int64 * 2)(5, 99_999)
_cpu.cross_entropy(
    logits=ctypes.addressof(logits), targets=ctypes.addressof(targets),
    losses=ctypes.addressof(losses), num_rows=2, vocab_size=100_000, row_stride=100_000,
)
print(json.dumps({"loaded": openmp_runtimes(), "used": _cpu.thread_runtime(),
                  "num_threads": _cpu.num_threads(), "losses": list(losses)}))
"""


def run_program(source: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-c", OPENMP_RUNTIMES + source, *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    losses = torch.empty(len(targets), dtype=torch.float64)
    _cpu.cross_entropy(
        logits=logits.data_ptr(),
        targets=targets.data_ptr(),
        losses=losses.data_ptr(),
        num_rows=len(targets),
        vocab_size=logits.shape[1],
        row_stride=logits.stride(0),
    )
    return losses


def random_problem(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(64, 4099, generator=generator)
    return logits, torch.randint(0, 4099, (64,), generator=generator)


def test_one_openmp_runtime_serves_torch_and_the_kernels() -> None:
    process = run_program(TORCH_AND_NUMBA)

    assert process == {"loaded": [process["used"]], "used": process["used"], "sum": 1000.0}
    assert process["used"]


def test_kernels_run_on_one_thread_without_torch() -> None:
    process = run_program(NO_TORCH, _cpu.__file__)

    assert process == {
        "loaded": [],
        "used": "",
        "num_threads": 1,
        "losses": pytest.approx([math.log(100_000)] * 2, rel=1e-12),
    }


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("num_threads", [1, 2])
def test_number_of_threads_is_that_of_torch(num_threads: int) -> None:
    torch.set_num_threads(num_threads)

    assert _cpu.num_threads() == num_threads


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_new_python_thread_takes_the_number_of_threads_of_torch(num_threads: int) -> None:
    torch.set_num_threads(num_threads)

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(_cpu.num_threads).result()

    assert taken == num_threads


@pytest.mark.usefixtures("two_threads")
def test_two_python_threads_at_once_give_the_right_losses() -> None:
    problems = [random_problem(seed) for seed in range(2)]
    expected = [functional.cross_entropy(x.double(), y, reduction="none") for x, y in problems]

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda i: cross_entropy(*problems[i % 2]), range(40)))

    # losses are about 10, so that two roundings of an fp32 logit are 2e-6
    torch.testing.assert_close(torch.stack(runs), torch.stack(expected * 20), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", _cpu.available_instruction_sets())
def test_a_forced_instruction_set_is_taken(name: str) -> None:
    chosen = _cpu.instruction_set()

    _cpu.force_instruction_set(name)
    taken = _cpu.instruction_set()
    _cpu.force_instruction_set(chosen)

    assert (taken, chosen) == (name, _cpu.available_instruction_sets()[-1])


def test_an_unknown_instruction_set_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="instruction set is 'sse9'; expected one of: baseline"):
        _cpu.force_instruction_set("sse9")
