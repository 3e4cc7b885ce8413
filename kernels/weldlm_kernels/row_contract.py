"""What the operations on rows ask of their tensors, and what they promise torch.compile."""

import torch
from torch import Tensor

__all__ = ["check_rows", "contiguous_like"]


def check_rows(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> None:
    """Refuses what the kernels, which take addresses, would read past its end or elsewhere.

    Args:
        x: [..., hidden_size].
        weight: [hidden_size].
        bias: [hidden_size] or None.
        residual: of the shape of `x`, or None.

    Raises:
        ValueError: a shape does not fit, or the tensors are on several devices.
    """
    shape, device = x.shape, x.device
    if not shape or shape[-1] == 0:
        raise ValueError(
            f"x {tuple(shape)}; expected [..., hidden_size] with a hidden_size above 0"
        )
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and vector.shape != shape[-1:]:
            raise ValueError(
                f"{name} {tuple(vector.shape)} does not fit x {tuple(shape)}; "
                f"expected ({shape[-1]},)"
            )
    if residual is not None and residual.shape != shape:
        raise ValueError(
            f"residual {tuple(residual.shape)} does not fit x {tuple(shape)}; expected equal shapes"
        )
    for name, tensor in (("weight", weight), ("bias", bias), ("residual", residual)):
        if tensor is not None and tensor.device != device:
            raise ValueError(f"{name} is on {tensor.device} and x on {device}; expected one device")


def contiguous_like(x: Tensor) -> Tensor:
    """Returns a contiguous tensor of the shape and dtype of `x`, not filled."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)
