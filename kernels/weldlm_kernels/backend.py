"""Which implementation of an operation a call takes, and why.

Three backends exist: `reference` (plain PyTorch), `cpu` (compiled kernels) and `gpu` (Triton). The
choice follows the device and dtype of the first tensor; `use_backend` forces another one. Choosing
automatically never raises; forcing what is not there raises and says how to get it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Backend", "Choice", "choose", "explain", "implementation", "use_backend"]

Backend = Literal["reference", "cpu", "gpu"]

_GPU_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_CPU_DTYPES = (torch.float32,)
# whose CPU backend takes 16 bits too and computes in fp32: their references take much longer
_CPU_IN_FP32 = ("attention",)

# operation -> what its CPU backend is: a compiled path, or PyTorch over chunks of rows where the
# reference would take more memory
_CPU_PATHS: dict[str, Literal["compiled", "chunked"]] = {
    "attention": "compiled",
    "layer_norm": "compiled",
    "rms_norm": "compiled",
    "rotary": "compiled",
    "gated_mlp": "compiled",
    "sampling": "compiled",
    "linear": "compiled",
    "quantized_linear": "compiled",
    "linear_cross_entropy": "compiled",
    "linear_kl_divergence": "chunked",
    "paged_attention": "compiled",
    "write_kv": "compiled",
}

# (operation, backend) -> options that it cannot compute; a call with one takes the reference
_GAPS: dict[tuple[str, Backend], tuple[str, ...]] = {
    ("attention", "cpu"): ("dropout",),
    ("gated_mlp", "cpu"): ("dropout",),
    ("linear", "cpu"): ("an unpacked weight",),
    ("quantized_linear", "cpu"): ("an unpacked weight",),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend that an operation takes and the reason in one line."""

    op: str
    backend: Backend
    reason: str


# process-wide, not a context variable: torch.compile guards on a module global, and backward may
# run on another thread
_forced: Backend | None = None


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Forces every operation of the process onto `backend` until the block ends.

    Raises:
        ValueError: `backend` is none of reference, cpu, gpu.
        RuntimeError: (from the operation called) the backend cannot run here.
    """
    if backend not in ("reference", "cpu", "gpu"):
        raise ValueError(f"backend is {backend!r}; expected 'reference', 'cpu' or 'gpu'")
    global _forced
    previous, _forced = _forced, backend
    try:
        yield
    finally:
        _forced = previous


def choose(op: str, x: Tensor, options: tuple[str, ...] = ()) -> Backend:
    """Returns the backend that `op` takes for a first argument like `x`.

    Args:
        op: the operation.
        x: its first argument.
        options: those in use that not every backend computes.

    Raises:
        RuntimeError: a backend was forced that cannot run here.
    """
    if _forced is not None:
        return _require(op, _forced, x.device.type, x.dtype, options)
    return _automatic_backend(op, x.device.type, x.dtype, options)


def explain(device: str = "cpu", dtype: torch.dtype = torch.float32) -> list[Choice]:
    """Lists for each operation the backend it takes on `device` in `dtype`, and why."""
    return [_automatic(op, device, dtype) for op in _CPU_PATHS]


@cache
def implementation(op: str, backend: Backend) -> ModuleType:
    """Imports the module that implements `op` for `backend`."""
    return import_module(f"weldlm_kernels.{op}.{backend}")


@cache
def _automatic(op: str, device: str, dtype: torch.dtype) -> Choice:
    backend: Backend = "gpu" if device == "cuda" else "cpu"
    obstacle = _OBSTACLES[backend](op, device, dtype)
    if obstacle is not None:
        return Choice(op, "reference", obstacle)
    gaps = _GAPS.get((op, backend), ())
    exceptions = f"; the reference for {', '.join(gaps)}" if gaps else ""
    merit = _MERITS["gpu" if backend == "gpu" else _CPU_PATHS[op]]
    return Choice(op, backend, merit + exceptions)


def _require(
    op: str, backend: Backend, device: str, dtype: torch.dtype, options: tuple[str, ...]
) -> Backend:
    if backend == "reference":
        return "reference"
    obstacle = _OBSTACLES[backend](op, device, dtype) or _gap(op, backend, options)
    if obstacle is not None:
        raise RuntimeError(f"{op} was forced onto the {backend} backend, but {obstacle}")
    return backend


def _gap(op: str, backend: Backend, options: tuple[str, ...]) -> str | None:
    gaps = [option for option in options if option in _GAPS.get((op, backend), ())]
    if gaps:
        return f"{gaps[0]} has no kernel there; use the reference"
    return None


def _cpu_obstacle(op: str, device: str, dtype: torch.dtype) -> str | None:
    if device != "cpu":
        return f"the tensor is on {device}; move it with .cpu()"
    is_half = dtype in (torch.bfloat16, torch.float16)
    if dtype not in _CPU_DTYPES and not (is_half and op in _CPU_IN_FP32):
        return f"{dtype} has no compiled path; use float32"
    if _CPU_PATHS[op] == "compiled" and not _is_installed("weldlm_kernels._cpu"):
        return "the extension weldlm_kernels._cpu is not built; run: pip install ."
    return None


def _gpu_obstacle(op: str, device: str, dtype: torch.dtype) -> str | None:
    if op == "linear":
        return "torch's own GEMM is the kernel there; packed weights are for a CPU"
    if not _is_installed("triton"):
        return "Triton is not installed; run: pip install triton"
    if device != "cuda" and not _is_interpreting():
        return f"the tensor is on {device}; move it with .cuda()"
    if dtype not in _GPU_DTYPES:
        return f"{dtype} has no kernel; use float32, float16 or bfloat16"
    return None


@cache
def _is_installed(module: str) -> bool:
    return util.find_spec(module) is not None


def _is_interpreting() -> bool:
    """Whether Triton interprets kernels on CPU tensors, as the tests make it do."""
    from triton import knobs

    return bool(knobs.runtime.interpret)


def _automatic_backend(
    op: str, device: str, dtype: torch.dtype, options: tuple[str, ...]
) -> Backend:
    backend = _automatic(op, device, dtype).backend
    return "reference" if _gap(op, backend, options) else backend


# torch.compile takes the choice as a constant instead of tracing how it is made. This is all that
# torch.compiler.assume_constant_result does, but calling it imports the compiler, for seconds.
_automatic_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]
_require._dynamo_marked_constant = True  # type: ignore[attr-defined]

_OBSTACLES: dict[Backend, Callable[[str, str, torch.dtype], str | None]] = {
    "cpu": _cpu_obstacle,
    "gpu": _gpu_obstacle,
}
_MERITS = {
    "compiled": "compiled CPU kernels",
    "chunked": "PyTorch in chunks of rows, which keeps no logits",
    "gpu": "Triton kernels",
}
