"""layer_norm and rms_norm with a residual on a GPU."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.case import Check, Cost, Goal, Pass, Timing, Work
from weldlm_kernels import layer_norm, rms_norm

__all__ = ["checks", "timings"]

CHECKED = {"1": (1, 768), "odd": (67, 1_000), "wide": (33, 8_192), "wider": (2, 65_536)}
TIMED = {"16384 x 1024": (16_384, 1_024), "16384 x 4096": (16_384, 4_096)}
BYTES = 2  # of a bfloat16
OPS = ("layer_norm", "rms_norm")


def checks() -> Iterator[Check]:
    for op in OPS:
        for name, (rows, columns) in CHECKED.items():
            yield Check(f"{op} {name}", partial(_make, op, rows, columns))
        yield Check(f"{op} offset", partial(_make_with_offset, op))


def timings() -> Iterator[Timing]:
    for op in OPS:
        for name, (rows, columns) in TIMED.items():
            tile = rows * columns * BYTES

            def make(
                dtype: torch.dtype,
                device: torch.device,
                is_tiny: bool,
                op: str = op,
                size: tuple[int, int] = (rows, columns),
            ) -> Work:
                return _make(op, *((4, 64) if is_tiny else size), dtype, device)

            passes = (
                # reads x and the residual, writes y and the stream
                Pass("forward", Cost(0, 4 * tile), Goal("share of copy", 0.90, 0.98)),
                # reads both gradients and the stream, writes that of x and the residual
                Pass("backward", Cost(0, 4 * tile), Goal("share of copy", 0.75, 0.90)),
            )
            yield Timing(f"{op} + residual, {name}", make, passes)


def _make(op: str, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Work:
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    inputs = {"x": random(rows, columns), "residual": random(rows, columns)}
    inputs["weight"] = random(columns)
    if op == "layer_norm":
        inputs["bias"] = random(columns)
    eager = _layer_norm_of_torch if op == "layer_norm" else _rms_norm_of_torch
    peers: dict[str, Callable[..., Any]] = {"eager": eager}
    if device.type == "cuda":
        peers["torch.compile"] = torch.compile(eager)
    return Work(dict(inputs), layer_norm if op == "layer_norm" else rms_norm, peers)


def _make_with_offset(op: str, dtype: torch.dtype, device: torch.device) -> Work:
    work = _make(op, *CHECKED["odd"], dtype, device)
    return Work(work.inputs, partial(work.ours, weight_offset=1.0))


def _layer_norm_of_torch(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Any:
    stream = x + residual
    return functional.layer_norm(stream, weight.shape, weight, bias), stream


def _rms_norm_of_torch(x: Tensor, residual: Tensor, weight: Tensor) -> Any:
    stream = x + residual
    return functional.rms_norm(stream, weight.shape, weight, 1e-6), stream
