"""linear_kl_divergence: what separates a student's next-token distribution from its teacher's.

The loss of distillation (Hinton et al. 2015, arXiv:1503.02531) from the states before the output
projections, a chunk of rows at a time as in linear_cross_entropy and in Liger's fused distillation
losses (Hsu et al. 2024, arXiv:2410.10989): neither model's [N, vocab_size] logits are kept.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.linear_kl_divergence import reference
from weldlm_kernels.projection_contract import check_projection, check_row_weights, needs_gradient
from weldlm_kernels.registration import differentiable, once_differentiable, register

__all__ = ["linear_kl_divergence"]


def linear_kl_divergence(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    row_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums KL(teacher || student) of the rows' distributions over the vocabulary.

    Args:
        student_hidden: [N, student_hidden_size], fp32, fp16 or bf16 (fp64 takes the reference).
        student_weight: [vocab_size, student_hidden_size]; used in the dtype of student_hidden.
        teacher_hidden: [N, teacher_hidden_size], a constant: it gets no gradient.
        teacher_weight: [vocab_size, teacher_hidden_size], another; in the dtype of teacher_hidden.
        temperature: divides the logits of both. The loss is not multiplied by its square, with
            which Hinton keeps gradients of one size over temperatures.
        mask: [N] bool, the rows that count, or None for all.
        row_weights: [N], a constant factor of the loss of each row, or None.

    Returns:
        loss_sum, an fp32 scalar (nats), and count, an int64 scalar on the same device: the rows
        that count, whatever their weights.

    Raises:
        ValueError: shapes do not fit, temperature is not above 0, row_weights require a gradient.
        TypeError: a tensor that is no mask has no floating-point dtype, or the mask is not bool.
    """
    _check(student_hidden, student_weight, teacher_hidden, teacher_weight, mask, row_weights)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected a number above 0")
    tensors = (student_hidden, student_weight, teacher_hidden, teacher_weight, mask, row_weights)
    backend = choose("linear_kl_divergence", student_hidden)
    if backend == "reference":
        student_weight = student_weight.to(student_hidden.dtype)
        teacher_weight = teacher_weight.to(teacher_hidden.dtype)
        return reference.linear_kl_divergence(
            *(student_hidden, student_weight, teacher_hidden, teacher_weight),
            *(mask, row_weights, temperature),
        )
    needs_grad = [needs_gradient(x) for x in (student_hidden, student_weight)]
    loss_sum, count, *_ = _linear_kl_divergence(*tensors, temperature, needs_grad, backend)
    return loss_sum, count


def _check(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    mask: Tensor | None,
    row_weights: Tensor | None,
) -> None:
    check_projection(student_hidden, student_weight, prefix="student_")
    check_projection(teacher_hidden, teacher_weight, prefix="teacher_")
    num_rows = len(student_hidden)
    if len(teacher_hidden) != num_rows or len(teacher_weight) != len(student_weight):
        raise ValueError(
            f"the student has {num_rows} rows over {len(student_weight)} tokens and the teacher "
            f"{len(teacher_hidden)} over {len(teacher_weight)}; expected the same of both"
        )
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError(f"mask is {mask.dtype}; expected torch.bool; compare it with what counts")
    if mask is not None and mask.shape != (num_rows,):
        raise ValueError(f"mask {tuple(mask.shape)}; expected ({num_rows},)")
    if row_weights is not None:
        check_row_weights(row_weights, num_rows)


def _forward(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    mask: Tensor | None,
    row_weights: Tensor | None,
    temperature: float,
    needs_grad: Sequence[bool],
    backend: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return implementation("linear_kl_divergence", backend).linear_kl_divergence(  # type: ignore[no-any-return]
        *(student_hidden, student_weight, teacher_hidden, teacher_weight),
        *(mask, row_weights, temperature, needs_grad),
    )


def _forward_fake(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    mask: Tensor | None,
    row_weights: Tensor | None,
    temperature: float,
    needs_grad: Sequence[bool],
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loss_sum = student_hidden.new_empty((), dtype=torch.float32)
    grad_hidden, grad_weight = (
        torch.empty_like(x) if is_needed else x.new_empty(0)
        for x, is_needed in zip((student_hidden, student_weight), needs_grad, strict=True)
    )
    return loss_sum, loss_sum.new_empty((), dtype=torch.int64), grad_hidden, grad_weight


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.needs_grad = inputs[7]
    _, count, *gradients = output
    ctx.mark_non_differentiable(count, *gradients)
    ctx.save_for_backward(*gradients)


@once_differentiable
def _backward(ctx: Any, grad_loss: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    # not in place: the saved gradients are outputs of the operation and may serve again
    gradients = (
        grad * grad_loss if is_needed else None
        for grad, is_needed in zip(ctx.saved_tensors, ctx.needs_grad, strict=True)
    )
    return *gradients, *[None] * 7


_forward_op = register(
    "linear_kl_divergence(Tensor student_hidden, Tensor student_weight, Tensor teacher_hidden,"
    " Tensor teacher_weight, Tensor? mask, Tensor? row_weights, float temperature,"
    " bool[] needs_grad, str backend)"
    " -> (Tensor loss_sum, Tensor count, Tensor grad_hidden, Tensor grad_weight)",
    _forward,
    _forward_fake,
)
_linear_kl_divergence = differentiable(_forward_op, _forward, _setup_context, _backward)
