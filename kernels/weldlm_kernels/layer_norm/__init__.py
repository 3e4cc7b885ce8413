"""layer_norm: layer normalization with an optional residual added first.

Forward saves mean and 1/std in fp32; backward needs one pass over the rows.
"""

from typing import Any, overload

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.layer_norm import reference
from weldlm_kernels.registration import differentiable, once_differentiable, register
from weldlm_kernels.row_contract import check_rows, contiguous_like

__all__ = ["layer_norm"]


@overload
def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None = ..., *, residual: None = ..., eps: float = ...
) -> Tensor: ...
@overload
def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None = ..., *, residual: Tensor, eps: float = ...
) -> tuple[Tensor, Tensor]: ...
def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | tuple[Tensor, Tensor]:
    """Normalizes the rows of `x` (+ `residual`) to zero mean and unit variance.

    Args:
        x: [..., hidden_size], fp32, fp16 or bf16 (fp64 takes the reference).
        weight: [hidden_size].
        bias: [hidden_size] or None.
        residual: [..., hidden_size], the residual stream to which `x` is added first.
        eps: added to the variance.

    Returns:
        y in the dtype of `x`; with `residual` also the updated stream x + residual in its dtype.

    Raises:
        ValueError: shapes do not fit, the tensors are on several devices, or `eps` is below 0.
        TypeError: `x` has no floating-point dtype.
    """
    check_rows(x, weight, bias, residual, eps)
    backend = choose("layer_norm", x)
    if backend == "reference":
        y, stream = reference.layer_norm(x, weight, bias, residual, eps)
    else:
        y, stream, _, _ = _layer_norm(x, weight, bias, residual, eps, backend)
    return y if residual is None else (y, stream)


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    backend: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return implementation("layer_norm", backend).layer_norm(x, weight, bias, residual, eps)  # type: ignore[no-any-return]


def _forward_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = x.numel() // x.shape[-1]
    stream = x.new_empty(0) if residual is None else contiguous_like(residual)
    statistics = torch.empty(rows, dtype=torch.float32, device=x.device)
    return contiguous_like(x), stream, statistics, torch.empty_like(statistics)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, residual, _, backend = inputs
    _, stream, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x if residual is None else stream, weight, mean, rstd)
    ctx.backend, ctx.x_dtype = backend, x.dtype
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.has_residual = residual is not None


@once_differentiable
def _backward(
    ctx: Any, grad_y: Tensor | None, grad_stream: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    stream, weight, mean, rstd = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros_like(stream, dtype=ctx.x_dtype)
    grad_x, grad_weight, grad_bias = _backward_op(
        grad_y, grad_stream if ctx.has_residual else None, stream, weight, mean, rstd, ctx.backend
    )
    return (
        grad_x.to(ctx.x_dtype),
        grad_weight,
        None if ctx.bias_dtype is None else grad_bias.to(ctx.bias_dtype),
        grad_x if ctx.has_residual else None,
        None,
        None,
    )


def _backward_implementation(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    backend: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    return implementation("layer_norm", backend).layer_norm_backward(  # type: ignore[no-any-return]
        grad_y, grad_stream, stream, weight, mean, rstd
    )


def _backward_fake(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return contiguous_like(stream), contiguous_like(weight), contiguous_like(weight)


_forward_op = register(
    "layer_norm(Tensor x, Tensor weight, Tensor? bias, Tensor? residual, float eps, str backend)"
    " -> (Tensor y, Tensor stream, Tensor mean, Tensor rstd)",
    _forward,
    _forward_fake,
)
_backward_op = register(
    "layer_norm_backward(Tensor grad_y, Tensor? grad_stream, Tensor stream, Tensor weight,"
    " Tensor mean, Tensor rstd, str backend)"
    " -> (Tensor grad_stream, Tensor grad_weight, Tensor grad_bias)",
    _backward_implementation,
    _backward_fake,
)
_layer_norm = differentiable(_forward_op, _forward, _setup_context, _backward)
