"""Every kernel compiles for the GPUs that are supported, without spilling and within their limits.

Nor does one take more than its row in benchmarks/results/compiled_kernels.md, where the installed
Triton wrote one (`python -m benchmarks.compiled_kernels`). Cases come from the files gate_<op>.py
beside this one: each has a list CASES.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from benchmarks.compiled_kernels import Footprint, cases, footprints, minor_version, recorded
from tests.kernels.compiler import Case, Resources, compile_for, resources

# bytes of shared memory that a program may ask for (CUDA programming guide, compute capabilities)
SHARED_MEMORY = {80: 166912, 90: 232448, 100: 232448}
REGISTERS = 65536  # of a multiprocessor
TENSOR_CORE_OPCODES = {80: ("HMMA",), 90: ("HGMMA", "HMMA"), 100: ("UTCHMMA", "HMMA")}


MAX_GROWTH = 1.1  # of the instructions of a kernel
RECORDED = recorded(minor_version())


def rows() -> list[Any]:
    return [row(case, arch) for case in cases() for arch in (80, 90, 100)]


def row(case: Case, arch: int) -> Any:
    # sm_100 takes twice as long to compile for, through an assembler of its own
    marks = [pytest.mark.slow] if case.is_slow or arch == 100 else []
    return pytest.param(case, arch, marks=marks, id=f"{case.name}-sm_{arch}")


@pytest.mark.parametrize(("case", "arch"), rows())
def test_kernels_fit_the_gpu(case: Case, arch: int) -> None:
    compiled = case.compile(arch)

    faults = [
        f"{kernel.metadata.name}: {fault}"
        for kernel in compiled
        for fault in _faults(resources(kernel), case, arch)
    ]
    grown = [growth for row in footprints(case.name, arch, compiled) for growth in _growth(row)]

    assert compiled, "the case launches no kernel"
    assert not faults + grown, "\n".join(faults + grown)


@triton.jit
def greedy_kernel(x_ptr, y_ptr, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)
    x = tl.load(x_ptr + index * 3)

    centered = x - tl.sum(x, axis=0)

    tl.store(y_ptr + index, centered)


def test_gate_finds_every_fault() -> None:
    case = Case("greedy", lambda _: [], has_dot=True, is_streaming=True, max_registers=16)
    x, y = torch.zeros(3 * 8192), torch.zeros(8192)
    used = resources(compile_for(80, greedy_kernel, x, y, SIZE=8192, num_warps=1))

    faults = " ".join(_faults(used, case, 80))

    assert "spills" in faults
    assert "local memory" in faults
    assert "registers a thread" in faults
    assert "no tensor-core instruction" in faults
    assert "no 128-bit load" in faults


def test_gate_finds_a_kernel_that_grew() -> None:
    row = next(iter(RECORDED.values()))

    assert _growth(row) == []
    assert len(_growth(replace(row, occupancy=0.0, instructions=2 * row.instructions))) == 2


def _growth(row: Footprint) -> list[str]:
    """Where a kernel takes more than this version of Triton made of it before."""
    before = RECORDED.get((row.case, row.arch, row.kernel))
    if before is None:
        return []
    checks = {
        f"occupancy fell from {before.occupancy} to {row.occupancy:.2f}": (
            row.occupancy > before.occupancy - 0.01
        ),
        f"instructions grew from {before.instructions} to {row.instructions}": (
            row.instructions <= MAX_GROWTH * before.instructions
        ),
    }
    return [f"{row.kernel}: {fault}" for fault, is_fine in checks.items() if not is_fine]


def _faults(used: Resources, case: Case, arch: int) -> list[str]:
    spills = used.opcodes["LDL"] + used.opcodes["STL"]
    dots = sum(used.opcodes[opcode] for opcode in TENSOR_CORE_OPCODES[arch])
    checks = {
        f"spills {used.stack} bytes a thread": used.stack == 0,
        f"has {spills} loads and stores of local memory": spills == 0,
        f"takes {used.shared} bytes of shared memory": used.shared <= SHARED_MEMORY[arch],
        f"takes {used.registers} registers in each of {used.threads} threads": (
            used.registers * used.threads <= REGISTERS
        ),
        f"takes {used.registers} registers a thread": used.registers <= case.max_registers,
        "has a dot but no tensor-core instruction": dots > 0 or not case.has_dot,
        "streams but has no 128-bit load": used.wide_loads > 0 or not case.is_streaming,
    }
    return [fault for fault, is_fine in checks.items() if not is_fine]
