"""What quantized_linear means, in plain PyTorch: a linear layer with the dequantized weight."""

import torch
from torch import Tensor

from weldlm_kernels.quantized_linear.weight import dequantize

__all__ = ["quantized_linear", "quantized_linear_backward"]


def quantized_linear(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    bias: Tensor | None,
    group_size: int,
) -> Tensor:
    """y = x @ W^T + bias, in at least fp32, in the dtype of x."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    y = x.to(dtype) @ dequantize(values, scales, minimums, group_size, dtype).mT
    if bias is not None:
        y = y + bias
    return y.to(x.dtype)


def quantized_linear_backward(
    grad_y: Tensor, values: Tensor, scales: Tensor, minimums: Tensor | None, group_size: int
) -> Tensor:
    """grad_x = grad_y @ W."""
    dtype = torch.promote_types(grad_y.dtype, torch.float32)
    grad_x = grad_y.to(dtype) @ dequantize(values, scales, minimums, group_size, dtype)
    return grad_x.to(grad_y.dtype)
