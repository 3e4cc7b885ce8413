"""The elementwise parts of an MLP on a GPU."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.case import Check, Cost, Goal, Pass, Timing, Work
from weldlm_kernels import activate, activate_gated

__all__ = ["checks", "timings"]

BYTES = 2  # of a bfloat16
ROWS, WIDTH = 16_384, 11_008  # of Llama 2 7B
ACTIVATIONS = ("gelu", "gelu_tanh", "silu", "relu")


def checks() -> Iterator[Check]:
    for activation in ACTIVATIONS:
        for is_gated in (False, True):
            kind = "gated" if is_gated else "plain"
            yield Check(f"MLP {activation}, {kind}", partial(_make, activation, is_gated, 67, 328))


def timings() -> Iterator[Timing]:
    tile = ROWS * WIDTH * BYTES

    def make(dtype: torch.dtype, device: torch.device, is_tiny: bool) -> Work:
        sizes = (4, 64) if is_tiny else (ROWS, WIDTH)
        return _make("silu", True, *sizes, dtype, device)

    passes = (
        Pass("forward", Cost(0, 3 * tile)),
        # reads gate, up and the gradient, writes two gradients
        Pass("backward", Cost(0, 5 * tile), Goal("share of copy", 0.80, 0.93)),
    )
    yield Timing(f"MLP silu, gated, {ROWS} x {WIDTH}", make, passes)


def _make(
    activation: Any,
    is_gated: bool,
    rows: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Work:
    generator = torch.Generator(device).manual_seed(0)
    width *= 2 if is_gated else 1
    x = torch.randn(rows, width, generator=generator, device=device).to(dtype)
    ours = partial(activate_gated if is_gated else activate, activation=activation)
    peers: dict[str, Callable[..., Any]] = {}
    if activation == "silu" and is_gated:
        peers["eager"] = _eager
        if device.type == "cuda":
            peers["torch.compile"] = torch.compile(_eager)
    return Work({"x": x}, ours, peers)


def _eager(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, -1)
    return functional.silu(gate) * up
