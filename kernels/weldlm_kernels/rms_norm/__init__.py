"""rms_norm: root-mean-square normalization with an optional residual added first.

Forward saves 1/rms in fp32; backward needs one pass over the rows.
"""

from typing import Any, overload

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.registration import differentiable, once_differentiable, register
from weldlm_kernels.rms_norm import reference
from weldlm_kernels.row_contract import check_rows, contiguous_like

__all__ = ["rms_norm"]


@overload
def rms_norm(x: Tensor, weight: Tensor, *, residual: None = ..., eps: float = ...) -> Tensor: ...
@overload
def rms_norm(
    x: Tensor, weight: Tensor, *, residual: Tensor, eps: float = ...
) -> tuple[Tensor, Tensor]: ...
def rms_norm(
    x: Tensor, weight: Tensor, *, residual: Tensor | None = None, eps: float = 1e-6
) -> Tensor | tuple[Tensor, Tensor]:
    """Divides the rows of `x` (+ `residual`) by their root mean square.

    Args:
        x: [..., hidden_size], fp32, fp16 or bf16 (fp64 takes the reference).
        weight: [hidden_size].
        residual: [..., hidden_size], the residual stream to which `x` is added first.
        eps: added to the mean square.

    Returns:
        y in the dtype of `x`; with `residual` also the updated stream x + residual in its dtype.

    Raises:
        ValueError: shapes do not fit, the tensors are on several devices, or `eps` is below 0.
        TypeError: `x` has no floating-point dtype.
    """
    check_rows(x, weight, None, residual, eps)
    backend = choose("rms_norm", x)
    if backend == "reference":
        y, stream = reference.rms_norm(x, weight, residual, eps)
    else:
        y, stream, _ = _rms_norm(x, weight, residual, eps, backend)
    return y if residual is None else (y, stream)


def _forward(
    x: Tensor, weight: Tensor, residual: Tensor | None, eps: float, backend: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return implementation("rms_norm", backend).rms_norm(x, weight, residual, eps)  # type: ignore[no-any-return]


def _forward_fake(
    x: Tensor, weight: Tensor, residual: Tensor | None, eps: float, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.numel() // x.shape[-1]
    stream = x.new_empty(0) if residual is None else contiguous_like(residual)
    return contiguous_like(x), stream, torch.empty(rows, dtype=torch.float32, device=x.device)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, residual, _, backend = inputs
    _, stream, rstd = output
    ctx.mark_non_differentiable(rstd)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x if residual is None else stream, weight, rstd)
    ctx.backend, ctx.x_dtype, ctx.has_residual = backend, x.dtype, residual is not None


@once_differentiable
def _backward(
    ctx: Any, grad_y: Tensor | None, grad_stream: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    stream, weight, rstd = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros_like(stream, dtype=ctx.x_dtype)
    grad_x, grad_weight = _backward_op(
        grad_y, grad_stream if ctx.has_residual else None, stream, weight, rstd, ctx.backend
    )
    return grad_x.to(ctx.x_dtype), grad_weight, grad_x if ctx.has_residual else None, None, None


def _backward_implementation(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor,
    rstd: Tensor,
    backend: Any,
) -> tuple[Tensor, Tensor]:
    return implementation("rms_norm", backend).rms_norm_backward(  # type: ignore[no-any-return]
        grad_y, grad_stream, stream, weight, rstd
    )


def _backward_fake(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor,
    rstd: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor]:
    return contiguous_like(stream), contiguous_like(weight)


_forward_op = register(
    "rms_norm(Tensor x, Tensor weight, Tensor? residual, float eps, str backend)"
    " -> (Tensor y, Tensor stream, Tensor rstd)",
    _forward,
    _forward_fake,
)
_backward_op = register(
    "rms_norm_backward(Tensor grad_y, Tensor? grad_stream, Tensor stream, Tensor weight,"
    " Tensor rstd, str backend) -> (Tensor grad_stream, Tensor grad_weight)",
    _backward_implementation,
    _backward_fake,
)
_rms_norm = differentiable(_forward_op, _forward, _setup_context, _backward)
