"""linear_cross_entropy: output projection and cross-entropy without the [N, vocab_size] logits.

Rows are taken in chunks of bounded bytes. Each chunk is projected, its loss taken and its gradient
with respect to hidden and weight added up at once, so that one chunk of logits lives at a time (as
in Wijmans et al. 2024, arXiv:2411.09009, with the gradient computed in the forward pass).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.dtypes import require_floating_point
from weldlm_kernels.linear_cross_entropy import reference
from weldlm_kernels.registration import differentiable, once_differentiable, register

__all__ = ["linear_cross_entropy"]


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Projects rows onto the vocabulary and sums the cross-entropy of the labelled ones.

    Args:
        hidden: [N, hidden_size], fp32, fp16 or bf16 (fp64 takes the reference).
        weight: [vocab_size, hidden_size], in any of these dtypes; used in the dtype of `hidden`.
        targets: [N] int64, below vocab_size, or `ignore_index` for rows without a label.
        bias: [vocab_size] or None.
        ignore_index: the target of rows that do not count.
        softcap: logits become softcap * tanh(logits / softcap).

    Returns:
        loss_sum, an fp32 scalar (nats), and count, an int64 scalar on the same device.

    Raises:
        ValueError: shapes do not fit.
        TypeError: `hidden` has no floating-point dtype.
    """
    _check(hidden, weight, targets, bias)
    backend = choose("linear_cross_entropy", hidden, () if softcap is None else ("softcap",))
    if backend == "reference":
        return reference.linear_cross_entropy(
            hidden, weight.to(hidden.dtype), bias, targets, ignore_index, softcap
        )
    needs_grad = [
        torch.is_grad_enabled() and x is not None and x.requires_grad
        for x in (hidden, weight, bias)
    ]
    loss_sum, count, *_ = _linear_cross_entropy(
        hidden, weight, bias, targets, ignore_index, needs_grad, backend
    )
    return loss_sum, count


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> None:
    require_floating_point("hidden", hidden)
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)} do not fit; "
            "expected [N, hidden_size] and [vocab_size, hidden_size]"
        )
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(
            f"targets {tuple(targets.shape)} {targets.dtype}; "
            f"expected ({hidden.shape[0]},) torch.int64"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias {tuple(bias.shape)}; expected ({weight.shape[0]},)")


def _forward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    needs_grad: Sequence[bool],
    backend: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return implementation("linear_cross_entropy", backend).linear_cross_entropy(  # type: ignore[no-any-return]
        hidden, weight, bias, targets, ignore_index, needs_grad
    )


def _forward_fake(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    needs_grad: Sequence[bool],
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    loss_sum, count = hidden.new_empty((), dtype=torch.float32), targets.new_empty(())
    grad_hidden, grad_weight, grad_bias = (
        torch.empty_like(x)
        if is_needed and x is not None
        else (weight if x is None else x).new_empty(0)
        for x, is_needed in zip((hidden, weight, bias), needs_grad, strict=True)
    )
    return loss_sum, count, grad_hidden, grad_weight, grad_bias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.needs_grad = inputs[5]
    _, count, *gradients = output
    ctx.mark_non_differentiable(count, *gradients)
    ctx.save_for_backward(*gradients)


@once_differentiable
def _backward(ctx: Any, grad_loss: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    # not in place: the saved gradients are outputs of the operation and may serve again
    grad_hidden, grad_weight, grad_bias = (
        grad * grad_loss if is_needed else None
        for grad, is_needed in zip(ctx.saved_tensors, ctx.needs_grad, strict=True)
    )
    return grad_hidden, grad_weight, grad_bias, None, None, None, None


_forward_op = register(
    "linear_cross_entropy(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets,"
    " int ignore_index, bool[] needs_grad, str backend)"
    " -> (Tensor loss_sum, Tensor count, Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)",
    _forward,
    _forward_fake,
)
_linear_cross_entropy = differentiable(_forward_op, _forward, _setup_context, _backward)
