"""linear_cross_entropy: output projection and cross-entropy without the [N, vocab_size] logits.

Rows are taken in chunks of bounded bytes. Each chunk is projected, its loss taken and its gradient
with respect to hidden and weight added up at once, so that one chunk of logits lives at a time (as
in Wijmans et al. 2024, arXiv:2411.09009, with the gradient computed in the forward pass).
"""

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.linear_cross_entropy import reference
from weldlm_kernels.linear_cross_entropy.options import LossOptions
from weldlm_kernels.projection_contract import (
    check_projection,
    check_row_weights,
    needs_gradient,
)
from weldlm_kernels.registration import differentiable, once_differentiable, register

__all__ = ["linear_cross_entropy"]


@overload
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = ...,
    row_weights: Tensor | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    softcap: float | None = ...,
    counts_correct: Literal[False] = ...,
) -> tuple[Tensor, Tensor]: ...
@overload
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = ...,
    row_weights: Tensor | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    softcap: float | None = ...,
    counts_correct: Literal[True],
) -> tuple[Tensor, Tensor, Tensor]: ...
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    row_weights: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    counts_correct: bool = False,
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Projects rows onto the vocabulary and sums the cross-entropy of the labelled ones.

    Args:
        hidden: [N, hidden_size], fp32, fp16 or bf16 (fp64 takes the reference).
        weight: [vocab_size, hidden_size], in any of these dtypes; used in the dtype of `hidden`.
        targets: [N] int64, below vocab_size, or `ignore_index` for rows without a label.
        bias: [vocab_size] or None.
        row_weights: [N], a constant factor of the loss of each row, or None.
        ignore_index: the target of rows that do not count.
        label_smoothing: in [0, 1], the share of each target spread evenly over the vocabulary.
        z_loss: each loss gains z_loss * logsumexp(logits)^2 (Chowdhery 2022, arXiv:2204.02311).
        softcap: logits become softcap * tanh(logits / softcap).
        counts_correct: also return how many labelled rows have the largest logit at their target,
            the lowest id among equals.

    Returns:
        loss_sum, an fp32 scalar (nats), and count, an int64 scalar on the same device: the labelled
        rows, whatever their weights; with `counts_correct` also num_correct, one like it.

    Raises:
        ValueError: shapes do not fit, an option is out of range, row_weights require a gradient.
        TypeError: `hidden` or `row_weights` has no floating-point dtype.
    """
    _check_tensors(hidden, weight, targets, bias, row_weights)
    _check_options(label_smoothing, z_loss, softcap)
    options = LossOptions(ignore_index, label_smoothing, z_loss, softcap, counts_correct)
    backend = choose("linear_cross_entropy", hidden)
    if backend == "reference":
        loss_sum, count, num_correct = reference.linear_cross_entropy(
            hidden, weight.to(hidden.dtype), bias, targets, row_weights, options
        )
    else:
        loss_sum, count, num_correct, *_ = _linear_cross_entropy(
            *(hidden, weight, bias, targets, row_weights),
            *(ignore_index, label_smoothing, z_loss, softcap, counts_correct),
            [needs_gradient(x) for x in (hidden, weight, bias)],
            backend,
        )
    return (loss_sum, count, num_correct) if counts_correct else (loss_sum, count)


def _check_tensors(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    row_weights: Tensor | None,
) -> None:
    check_projection(hidden, weight)
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(
            f"targets {tuple(targets.shape)} {targets.dtype}; "
            f"expected ({hidden.shape[0]},) torch.int64"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias {tuple(bias.shape)}; expected ({weight.shape[0]},)")
    if row_weights is not None:
        check_row_weights(row_weights, len(hidden))


def _check_options(label_smoothing: float, z_loss: float, softcap: float | None) -> None:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected a share from 0 to 1")
    if not z_loss >= 0:
        raise ValueError(f"z_loss is {z_loss}; expected a factor of 0 or more")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap is {softcap}; expected a number above 0, or None")


def _forward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    row_weights: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    counts_correct: bool,
    needs_grad: Sequence[bool],
    backend: Any,
) -> tuple[Tensor, ...]:
    options = LossOptions(ignore_index, label_smoothing, z_loss, softcap, counts_correct)
    return implementation("linear_cross_entropy", backend).linear_cross_entropy(  # type: ignore[no-any-return]
        hidden, weight, bias, targets, row_weights, options, needs_grad
    )


def _forward_fake(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    row_weights: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    counts_correct: bool,
    needs_grad: Sequence[bool],
    backend: str,
) -> tuple[Tensor, ...]:
    loss_sum, count = hidden.new_empty((), dtype=torch.float32), targets.new_empty(())
    num_correct = targets.new_empty(() if counts_correct else 0)
    grad_hidden, grad_weight, grad_bias = (
        torch.empty_like(x)
        if is_needed and x is not None
        else (weight if x is None else x).new_empty(0)
        for x, is_needed in zip((hidden, weight, bias), needs_grad, strict=True)
    )
    return loss_sum, count, num_correct, grad_hidden, grad_weight, grad_bias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.needs_grad = inputs[10]
    _, count, num_correct, *gradients = output
    ctx.mark_non_differentiable(count, num_correct, *gradients)
    ctx.save_for_backward(*gradients)


@once_differentiable
def _backward(ctx: Any, grad_loss: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    # not in place: the saved gradients are outputs of the operation and may serve again
    gradients = (
        grad * grad_loss if is_needed else None
        for grad, is_needed in zip(ctx.saved_tensors, ctx.needs_grad, strict=True)
    )
    return *gradients, *[None] * 9


_forward_op = register(
    "linear_cross_entropy(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets,"
    " Tensor? row_weights, int ignore_index, float label_smoothing, float z_loss, float? softcap,"
    " bool counts_correct, bool[] needs_grad, str backend) -> (Tensor loss_sum, Tensor count,"
    " Tensor num_correct, Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)",
    _forward,
    _forward_fake,
)
_linear_cross_entropy = differentiable(_forward_op, _forward, _setup_context, _backward)
