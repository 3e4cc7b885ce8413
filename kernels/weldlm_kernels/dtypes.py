"""What the operations ask of the dtypes of their tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["refuse_gradient", "require_floating_point"]


def require_floating_point(name: str, x: Tensor) -> None:
    """Refuses integers, in which the mathematics of the operations would be cut off.

    Raises:
        TypeError: `x` has no floating-point dtype.
    """
    if not x.is_floating_point():
        raise TypeError(
            f"{name} is {x.dtype}; expected float32, float16, bfloat16 or float64; convert it"
        )


def refuse_gradient(op: str, tensors: Sequence[Tensor | None]) -> None:
    """Refuses tensors whose gradient an operation for inference would lose.

    Raises:
        RuntimeError: gradients are recorded and one of `tensors` requires one.
    """
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        raise RuntimeError(
            f"an argument of {op} requires a gradient, but {op} has none; expected inference; "
            "call it under torch.no_grad(), or detach its arguments"
        )
