"""gated_mlp on a CPU: fp32 rows in C++, threads over rows; bias is added before."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.gated_mlp.reference import ACTIVATIONS
from weldlm_kernels.row_buffers import fp32

__all__ = ["activate", "activate_backward", "activate_gated", "activate_gated_backward"]

_NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}  # as in gated_mlp.hpp


def activate(
    x: Tensor, bias: Tensor | None, seed: None, activation: str, dropout_p: float
) -> Tensor:
    """Returns y, contiguous; there is no dropout."""
    x = _with_bias(x, bias)
    y, width = torch.empty_like(x), x.shape[-1]
    rows = x.numel() // width
    _cpu.gated_mlp(x.data_ptr(), y.data_ptr(), rows, width, _NUMBERS[activation], False)
    return y


def activate_gated(
    x: Tensor, bias: Tensor | None, seed: None, activation: str, dropout_p: float
) -> Tensor:
    """Returns y, contiguous; there is no dropout."""
    x, width = _with_bias(x, bias), x.shape[-1] // 2
    y = x.new_empty(*x.shape[:-1], width)
    rows = x.numel() // (2 * width)
    _cpu.gated_mlp(x.data_ptr(), y.data_ptr(), rows, width, _NUMBERS[activation], True)
    return y


def activate_backward(
    grad_y: Tensor,
    x: Tensor,
    bias: Tensor | None,
    seed: None,
    activation: str,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of x and of bias ([0] if None)."""
    return _backward(grad_y, x, bias, activation, is_gated=False)


def activate_gated_backward(
    grad_y: Tensor,
    x: Tensor,
    bias: Tensor | None,
    seed: None,
    activation: str,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of x and of bias ([0] if None)."""
    return _backward(grad_y, x, bias, activation, is_gated=True)


def _backward(
    grad_y: Tensor, x: Tensor, bias: Tensor | None, activation: str, *, is_gated: bool
) -> tuple[Tensor, Tensor]:
    grad_y, x = fp32(grad_y), _with_bias(x, bias)
    grad_x, width = torch.empty_like(x), grad_y.shape[-1]
    _cpu.gated_mlp_backward(
        grad_y.data_ptr(),
        x.data_ptr(),
        grad_x.data_ptr(),
        grad_y.numel() // width,
        width,
        _NUMBERS[activation],
        is_gated,
    )
    if bias is None:
        return grad_x, grad_x.new_empty(0)
    return grad_x, grad_x.reshape(-1, x.shape[-1]).sum(dim=0).to(bias.dtype)


def _with_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    return fp32(x if bias is None else x + bias.to(x.dtype))
