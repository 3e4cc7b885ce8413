"""quantized_linear on a CPU: a packed weight and rounded fp32 rows, multiplied in integers."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.row_buffers import fp32

__all__ = ["quantized_linear"]


def quantized_linear(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    bias: Tensor | None,
    group_size: int,
    out_features: int,
) -> Tensor:
    """Returns y [..., N]; the arguments are the fields of a PackedQuantizedWeight."""
    in_features = x.shape[-1]
    x = fp32(x)
    bias = None if bias is None else fp32(bias)
    y = torch.empty(*x.shape[:-1], out_features, dtype=torch.float32)
    num_rows = x.numel() // in_features
    if group_size == 0:
        _cpu.int8_linear(
            x.data_ptr(),
            values.data_ptr(),
            scales.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            y.data_ptr(),
            num_rows,
            in_features,
            out_features,
        )
    else:
        _cpu.int4_linear(
            x.data_ptr(),
            values.data_ptr(),
            scales.data_ptr(),
            0 if minimums is None else minimums.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            y.data_ptr(),
            num_rows,
            in_features,
            out_features,
            group_size,
        )
    return y
