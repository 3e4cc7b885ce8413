"""Compiles Triton kernels for a GPU that is not there, and reads what they would take of it.

A stub stands in for the GPU driver, so the launcher's own specialization (dtype, alignment, values
of 1) is taken from CPU tensors. Registers, stack and instructions are read with the cuobjdump that
Triton ships.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

__all__ = ["Case", "Resources", "compile_for", "compile_launches", "resources"]

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.M)
_WIDE_LOADS = ("LD", "LDG", "LDGSTS")
_TENSOR_MEMORY_LOADS = ("UTMALDG", "UBLKCP")


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the compile gate (test_compile_gate.py)."""

    name: str
    compile: Callable[[int], list[Any]]  # architecture, such as 90, to its compiled kernels
    has_dot: bool = False  # every kernel must use tensor cores
    is_streaming: bool = False  # every kernel must load 128 bits at a time
    max_registers: int = (
        255  # of a thread; fewer where a launch counts on several resident programs
    )
    is_slow: bool = False  # left to `-m slow`


@dataclass(frozen=True, slots=True)
class Resources:
    """What one program of a compiled kernel takes."""

    registers: int  # per thread
    stack: int  # bytes per thread; more than 0 means spilled registers
    shared: int  # bytes per program
    threads: int
    opcodes: Counter[str]  # SASS instructions without their modifiers
    wide_loads: int  # instructions that load 128 bits a thread, or a whole tile


def compile_for(arch: int, kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """Compiles `kernel` for sm_<arch> as a launch with these (CPU) arguments would."""
    with _target(arch):
        return kernel.warmup(*args, grid=(1,), **kwargs)


def compile_launches(arch: int, launch: Callable[[], object]) -> list[Any]:
    """Compiles each kernel that `launch` starts, in order, without running one."""
    compiled: list[Any] = []
    run = JITFunction.run

    def record(kernel: Any, *args: Any, grid: Any, **kwargs: Any) -> None:
        kwargs["warmup"] = True
        compiled.append(run(kernel, *args, grid=grid, **kwargs))

    with _target(arch), mock.patch.object(JITFunction, "run", record):
        launch()
    return compiled


@cache
def resources(compiled: Any) -> Resources:
    """Reads the resources of a kernel compiled for an NVIDIA GPU."""
    usage, sass = _dump(compiled.asm["cubin"], "-res-usage"), _dump(compiled.asm["cubin"], "-sass")
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, f"cuobjdump printed no resource usage: {usage}"
    instructions = [name.split(".") for name in _INSTRUCTION.findall(sass)]
    return Resources(
        registers=int(found[1]),
        stack=int(found[2]),
        shared=compiled.metadata.shared,
        threads=compiled.metadata.num_warps * 32,
        opcodes=Counter(name[0] for name in instructions),
        wide_loads=sum(_is_wide_load(name) for name in instructions),
    )


def _is_wide_load(instruction: list[str]) -> bool:
    opcode, *modifiers = instruction
    return opcode in _TENSOR_MEMORY_LOADS or (opcode in _WIDE_LOADS and "128" in modifiers)


def _dump(cubin: bytes, option: str) -> str:
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(program), option, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def _target(arch: int) -> Iterator[None]:
    active = driver._active
    driver.set_active(_StubDriver(GPUTarget("cuda", arch, 32)))
    try:
        with triton.knobs.language.scope():
            triton.knobs.language.default_fp_fusion = True  # Triton 3.10 changes the default
            yield
    finally:
        driver._active = active


class _StubDriver:
    """The part of a GPU driver that compiling asks for."""

    def __init__(self, target: GPUTarget) -> None:
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> tuple[str, int]:
        # the key of a kernel's cache: one value for all would return another target's code
        return self._target.backend, self._target.arch

    def get_current_stream(self, _: object) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def map_python_to_cpp_type(self, name: str) -> str:
        return name
