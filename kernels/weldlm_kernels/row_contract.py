"""What the norms share: what they ask of their tensors, and how gradients reach x and residual."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from weldlm_kernels.dtypes import require_floating_point

__all__ = ["check_rows", "contiguous_like", "gradients_of_rows", "save_rows"]


def check_rows(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    weight_offset: float,
) -> None:
    """Refuses what the kernels, which take addresses, would read past its end or elsewhere.

    Args:
        x: [..., hidden_size].
        weight: [hidden_size] or None.
        bias: [hidden_size] or None.
        residual: of the shape of `x`, or None.
        eps: at least 0.
        weight_offset: 0 without a weight.

    Raises:
        ValueError: a shape does not fit, the tensors are on several devices, `eps` is below 0, or
            an offset stands alone.
        TypeError: `x` has no floating-point dtype.
    """
    shape, device = x.shape, x.device
    require_floating_point("x", x)
    if not shape or shape[-1] == 0:
        raise ValueError(f"x {tuple(shape)}; expected [..., hidden_size], hidden_size above 0")
    row = shape[-1:]
    if weight is None and weight_offset != 0.0:
        raise ValueError(f"weight_offset is {weight_offset} without a weight; expected 0.0")
    if weight is not None and (weight.shape != row or weight.device != device):
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


def save_rows(
    ctx: Any,
    *,
    x: Tensor,
    weight: Tensor | None,
    residual: Tensor | None,
    stream: Tensor,
    statistics: Sequence[Tensor],
    weight_offset: float,
    backend: str,
) -> None:
    """Saves what `gradients_of_rows` needs; statistics [rows] are outputs without a gradient."""
    ctx.mark_non_differentiable(*statistics)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x if residual is None else stream, weight, *statistics)
    ctx.x_dtype, ctx.has_residual = x.dtype, residual is not None
    ctx.weight_offset, ctx.backend = weight_offset, backend


def gradients_of_rows(
    ctx: Any,
    grad_y: Tensor | None,
    grad_stream: Tensor | None,
    backward_op: Callable[..., tuple[Tensor, ...]],
) -> tuple[Any, ...]:
    """Returns the gradients of x, residual and weight, and what else `backward_op` returns.

    Args:
        grad_y: [..., hidden_size], None where y went unused, as grad_stream of the stream.
        backward_op: `(grad_y, grad_stream, stream, weight, *statistics, weight_offset, backend)`,
            returns the gradients of the stream, of weight and maybe more.
    """
    stream, weight, *statistics = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros_like(stream, dtype=ctx.x_dtype)
    if not ctx.has_residual:
        grad_stream = None
    grad_s, grad_weight, *rest = backward_op(
        grad_y, grad_stream, stream, weight, *statistics, ctx.weight_offset, ctx.backend
    )
    return (
        grad_s.to(ctx.x_dtype),
        grad_s if ctx.has_residual else None,
        None if weight is None else grad_weight,
        *rest,
    )
