"""rms_norm: root-mean-square normalization with an optional residual added first.

Forward saves 1/rms in fp32; backward needs one pass over the rows.
"""

from typing import Any, overload

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.registration import differentiable, once_differentiable, register
from weldlm_kernels.rms_norm import reference
from weldlm_kernels.row_contract import (
    check_rows,
    contiguous_like,
    gradients_of_rows,
    save_rows,
)

__all__ = ["rms_norm"]


@overload
def rms_norm(
    x: Tensor,
    weight: Tensor | None = ...,
    *,
    residual: None = ...,
    eps: float = ...,
    weight_offset: float = ...,
) -> Tensor: ...
@overload
def rms_norm(
    x: Tensor,
    weight: Tensor | None = ...,
    *,
    residual: Tensor,
    eps: float = ...,
    weight_offset: float = ...,
) -> tuple[Tensor, Tensor]: ...
def rms_norm(
    x: Tensor,
    weight: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    eps: float = 1e-6,
    weight_offset: float = 0.0,
) -> Tensor | tuple[Tensor, Tensor]:
    """Divides the rows of `x` (+ `residual`) by their root mean square.

    Args:
        x: [..., hidden_size], fp32, fp16 or bf16 (fp64 takes the reference).
        weight: [hidden_size] or None for ones.
        residual: [..., hidden_size], the residual stream to which `x` is added first.
        eps: added to the mean square.
        weight_offset: added to weight, in fp32: 1.0 where weights are stored less one (Gemma).

    Returns:
        y in the dtype of `x`; with `residual` also the updated stream x + residual in its dtype.

    Raises:
        ValueError: shapes do not fit, the tensors are on several devices, `eps` is below 0, or
            weight_offset is not 0 without a weight.
        TypeError: `x` has no floating-point dtype.
    """
    check_rows(x, weight, None, residual, eps, weight_offset)
    backend = choose("rms_norm", x)
    if backend == "reference":
        y, stream = reference.rms_norm(x, weight, residual, eps, weight_offset)
    else:
        y, stream, _ = _rms_norm(x, weight, residual, eps, weight_offset, backend)
    return y if residual is None else (y, stream)


def _forward(
    x: Tensor,
    weight: Tensor | None,
    residual: Tensor | None,
    eps: float,
    weight_offset: float,
    backend: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    return implementation("rms_norm", backend).rms_norm(  # type: ignore[no-any-return]
        x, weight, residual, eps, weight_offset
    )


def _forward_fake(
    x: Tensor,
    weight: Tensor | None,
    residual: Tensor | None,
    eps: float,
    weight_offset: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.numel() // x.shape[-1]
    stream = x.new_empty(0) if residual is None else contiguous_like(residual)
    return contiguous_like(x), stream, torch.empty(rows, dtype=torch.float32, device=x.device)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, residual, _, weight_offset, backend = inputs
    _, stream, *statistics = output
    save_rows(
        ctx,
        x=x,
        weight=weight,
        residual=residual,
        stream=stream,
        statistics=statistics,
        weight_offset=weight_offset,
        backend=backend,
    )


@once_differentiable
def _backward(
    ctx: Any, grad_y: Tensor | None, grad_stream: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    grad_x, grad_residual, grad_weight = gradients_of_rows(ctx, grad_y, grad_stream, _backward_op)
    return grad_x, grad_weight, grad_residual, None, None, None


def _backward_implementation(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    rstd: Tensor,
    weight_offset: float,
    backend: Any,
) -> tuple[Tensor, Tensor]:
    return implementation("rms_norm", backend).rms_norm_backward(  # type: ignore[no-any-return]
        grad_y, grad_stream, stream, weight, rstd, weight_offset
    )


def _backward_fake(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    rstd: Tensor,
    weight_offset: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    return contiguous_like(stream), rstd.new_empty(0) if weight is None else contiguous_like(weight)


_forward_op = register(
    "rms_norm(Tensor x, Tensor? weight, Tensor? residual, float eps, float weight_offset,"
    " str backend) -> (Tensor y, Tensor stream, Tensor rstd)",
    _forward,
    _forward_fake,
)
_backward_op = register(
    "rms_norm_backward(Tensor grad_y, Tensor? grad_stream, Tensor stream, Tensor? weight,"
    " Tensor rstd, float weight_offset, str backend) -> (Tensor grad_stream, Tensor grad_weight)",
    _backward_implementation,
    _backward_fake,
)
_rms_norm = differentiable(_forward_op, _forward, _setup_context, _backward)
