"""rotary on a GPU."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.case import Check, Cost, Pass, Timing, Work
from weldlm_kernels import rotary

__all__ = ["checks", "timings"]

BYTES = 2  # of a bfloat16
TOKENS, HEADS, HEAD_DIM = 16_384, 32, 128


def checks() -> Iterator[Check]:
    for is_interleaved in (False, True):
        convention = "neighbors" if is_interleaved else "halves"
        for head_dim, rotated in ((64, 64), (80, 32), (128, 128)):
            yield Check(
                f"rotary {convention} {head_dim} of which {rotated}",
                partial(_make, 67, 3, head_dim, rotated, is_interleaved),
            )


def timings() -> Iterator[Timing]:
    tensor = TOKENS * HEADS * HEAD_DIM * BYTES
    passes = (Pass("forward", Cost(0, 2 * tensor)), Pass("backward", Cost(0, 2 * tensor)))

    def make(dtype: torch.dtype, device: torch.device, is_tiny: bool) -> Work:
        sizes = (8, 2, 64, 64) if is_tiny else (TOKENS, HEADS, HEAD_DIM, HEAD_DIM)
        return _make(*sizes, False, dtype, device)

    yield Timing(f"rotary {TOKENS} x {HEADS} x {HEAD_DIM}", make, passes)


def _make(
    tokens: int,
    heads: int,
    head_dim: int,
    rotated: int,
    is_interleaved: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Work:
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(tokens, heads, head_dim, generator=generator, device=device).to(dtype)
    angle = torch.outer(torch.arange(tokens), 1e4 ** -torch.linspace(0, 1, rotated // 2))
    cos, sin = angle.cos().to(device), angle.sin().to(device)
    positions = torch.arange(tokens, device=device)

    def ours(x: Tensor) -> Tensor:
        return rotary(x, cos, sin, positions, is_interleaved=is_interleaved)

    def eager(x: Tensor) -> Tensor:
        wide_cos, wide_sin = (torch.cat([t, t], -1)[:, None].to(x.dtype) for t in (cos, sin))
        first, second = x.chunk(2, -1)
        return x * wide_cos + torch.cat([-second, first], -1) * wide_sin

    peers: dict[str, Callable[..., Any]] = {}
    if rotated == head_dim and not is_interleaved:
        peers["eager"] = eager
        if device.type == "cuda":
            peers["torch.compile"] = torch.compile(eager)
    return Work({"x": x}, ours, peers)
