"""What the operations on rows ask of their tensors, and what they promise torch.compile."""

from typing import NoReturn

import torch
from torch import Tensor

from weldlm_kernels.dtypes import require_floating_point

__all__ = ["check_rows", "contiguous_like"]


def check_rows(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, eps: float
) -> None:
    """Refuses what the kernels, which take addresses, would read past its end or elsewhere.

    Args:
        x: [..., hidden_size].
        weight: [hidden_size].
        bias: [hidden_size] or None.
        residual: of the shape of `x`, or None.
        eps: at least 0.

    Raises:
        ValueError: a shape does not fit, the tensors are on several devices, or `eps` is below 0.
        TypeError: `x` has no floating-point dtype.
    """
    shape, device = x.shape, x.device
    require_floating_point("x", x)
    if not shape or shape[-1] == 0:
        raise ValueError(f"x {tuple(shape)}; expected [..., hidden_size], hidden_size above 0")
    row = shape[-1:]
    if weight.shape != row or weight.device != device:
        _refuse("weight", weight, x, row)
    if bias is not None and (bias.shape != row or bias.device != device):
        _refuse("bias", bias, x, row)
    if residual is not None and (residual.shape != shape or residual.device != device):
        _refuse("residual", residual, x, shape)
    if not eps >= 0:  # nor NaN
        raise ValueError(f"eps is {eps}; expected 0 or more, as it is added under a square root")


def _refuse(name: str, tensor: Tensor, x: Tensor, expected: torch.Size) -> NoReturn:
    if tensor.shape != expected:
        raise ValueError(
            f"{name} {tuple(tensor.shape)} does not fit x {tuple(x.shape)}; "
            f"expected {tuple(expected)}"
        )
    raise ValueError(f"{name} is on {tensor.device} and x on {x.device}; expected one device")


def contiguous_like(x: Tensor) -> Tensor:
    """Returns a contiguous tensor of the shape and dtype of `x`, not filled."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)
