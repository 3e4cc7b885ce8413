"""linear on a CPU with a packed fp32 weight."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.row_buffers import fp32

__all__ = ["linear"]


def linear(x: Tensor, values: Tensor, bias: Tensor | None, out_features: int) -> Tensor:
    """Returns y [..., N]; `values` are those of a PackedWeight."""
    in_features = x.shape[-1]
    x = fp32(x)
    bias = None if bias is None else fp32(bias)
    y = torch.empty(*x.shape[:-1], out_features, dtype=torch.float32)
    _cpu.linear(
        x.data_ptr(),
        values.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        y.data_ptr(),
        x.numel() // in_features,
        in_features,
        out_features,
    )
    return y
