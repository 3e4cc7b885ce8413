"""rotary on a CPU: fp32 heads in C++, in one pass."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.rotary import reference
from weldlm_kernels.row_buffers import fp32

__all__ = ["rotary", "rotary_in_place"]


def rotary(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool) -> Tensor:
    """Returns the rotation of `x` [T, H, D], contiguous."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    x = x if x.stride(2) == 1 else x.contiguous()
    if not _rotate(x, out, cos, sin, positions, is_interleaved):
        return reference.rotary(x, cos, sin, positions, is_interleaved)
    return out


def rotary_in_place(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool
) -> None:
    """Writes the rotation of `x` over it."""
    if x.stride(2) != 1 or not _rotate(x, x, cos, sin, positions, is_interleaved):
        reference.rotary_in_place(x, cos, sin, positions, is_interleaved)


def _rotate(
    x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool
) -> bool:
    """False, and nothing written, where a position lies outside the tables."""
    cos, sin, positions = fp32(cos), fp32(sin), positions.long().contiguous()
    return _cpu.rotary(
        (x.data_ptr(), x.stride(0), x.stride(1)),
        (out.data_ptr(), out.stride(0), out.stride(1)),
        cos.data_ptr(),
        sin.data_ptr(),
        positions.data_ptr(),
        (*x.shape, cos.shape[1], cos.shape[0]),
        is_interleaved,
    )
