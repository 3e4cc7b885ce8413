"""layer_norm: layer normalization with an optional residual added first.

Forward saves mean and 1/std in fp32; backward needs one pass over the rows.
"""

from typing import Any, overload

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.layer_norm import reference
from weldlm_kernels.registration import differentiable, once_differentiable, register
from weldlm_kernels.row_contract import (
    check_rows,
    contiguous_like,
    gradients_of_rows,
    save_rows,
)

__all__ = ["layer_norm"]


@overload
def layer_norm(
    x: Tensor,
    weight: Tensor | None = ...,
    bias: Tensor | None = ...,
    *,
    residual: None = ...,
    eps: float = ...,
    weight_offset: float = ...,
) -> Tensor: ...
@overload
def layer_norm(
    x: Tensor,
    weight: Tensor | None = ...,
    bias: Tensor | None = ...,
    *,
    residual: Tensor,
    eps: float = ...,
    weight_offset: float = ...,
) -> tuple[Tensor, Tensor]: ...
def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    eps: float = 1e-5,
    weight_offset: float = 0.0,
) -> Tensor | tuple[Tensor, Tensor]:
    """Normalizes the rows of `x` (+ `residual`) to zero mean and unit variance.

    Args:
        x: [..., hidden_size], fp32, fp16 or bf16 (fp64 takes the reference).
        weight: [hidden_size] or None for ones.
        bias: [hidden_size] or None.
        residual: [..., hidden_size], the residual stream to which `x` is added first.
        eps: added to the variance.
        weight_offset: added to weight, in fp32: 1.0 where weights are stored less one.

    Returns:
        y in the dtype of `x`; with `residual` also the updated stream x + residual in its dtype.

    Raises:
        ValueError: shapes do not fit, the tensors are on several devices, `eps` is below 0, or
            weight_offset is not 0 without a weight.
        TypeError: `x` has no floating-point dtype.
    """
    check_rows(x, weight, bias, residual, eps, weight_offset)
    backend = choose("layer_norm", x)
    if backend == "reference":
        y, stream = reference.layer_norm(x, weight, bias, residual, eps, weight_offset)
    else:
        y, stream, *_ = _layer_norm(x, weight, bias, residual, eps, weight_offset, backend)
    return y if residual is None else (y, stream)


def _forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    weight_offset: float,
    backend: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return implementation("layer_norm", backend).layer_norm(  # type: ignore[no-any-return]
        x, weight, bias, residual, eps, weight_offset
    )


def _forward_fake(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    weight_offset: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = x.numel() // x.shape[-1]
    stream = x.new_empty(0) if residual is None else contiguous_like(residual)
    statistics = torch.empty(rows, dtype=torch.float32, device=x.device)
    return contiguous_like(x), stream, statistics, torch.empty_like(statistics)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, residual, _, weight_offset, backend = inputs
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
    ctx.bias_dtype = None if bias is None else bias.dtype


@once_differentiable
def _backward(
    ctx: Any, grad_y: Tensor | None, grad_stream: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    grad_x, grad_residual, grad_weight, grad_bias = gradients_of_rows(
        ctx, grad_y, grad_stream, _backward_op
    )
    grad_bias = None if ctx.bias_dtype is None else grad_bias.to(ctx.bias_dtype)
    return grad_x, grad_weight, grad_bias, grad_residual, None, None, None


def _backward_implementation(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    weight_offset: float,
    backend: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    return implementation("layer_norm", backend).layer_norm_backward(  # type: ignore[no-any-return]
        grad_y, grad_stream, stream, weight, mean, rstd, weight_offset
    )


def _backward_fake(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    weight_offset: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_weight = mean.new_empty(stream.shape[-1]) if weight is None else contiguous_like(weight)
    return contiguous_like(stream), grad_weight, torch.empty_like(grad_weight)


_forward_op = register(
    "layer_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, float eps,"
    " float weight_offset, str backend) -> (Tensor y, Tensor stream, Tensor mean, Tensor rstd)",
    _forward,
    _forward_fake,
)
_backward_op = register(
    "layer_norm_backward(Tensor grad_y, Tensor? grad_stream, Tensor stream, Tensor? weight,"
    " Tensor mean, Tensor rstd, float weight_offset, str backend)"
    " -> (Tensor grad_stream, Tensor grad_weight, Tensor grad_bias)",
    _backward_implementation,
    _backward_fake,
)
_layer_norm = differentiable(_forward_op, _forward, _setup_context, _backward)
