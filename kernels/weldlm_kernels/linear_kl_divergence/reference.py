"""What linear_kl_divergence means, in plain PyTorch (Hinton et al. 2015, arXiv:1503.02531)."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["linear_kl_divergence"]


def linear_kl_divergence(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    mask: Tensor | None,
    row_weights: Tensor | None,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """loss = sum over masked-in rows of row_weight * sum(p * (log p - log q)).

    p = softmax(teacher_hidden teacher_weight^T / temperature), q that of the student.
    Returns the sum and the number of rows where `mask` is true.
    """
    log_q = _log_softmax(functional.linear(student_hidden, student_weight), temperature)
    with torch.no_grad():
        log_p = _log_softmax(functional.linear(teacher_hidden, teacher_weight), temperature)
        p = log_p.exp()
    losses = (p * (log_p - log_q)).where(p > 0, 0.0).sum(dim=1)
    if row_weights is not None:
        losses = losses * row_weights.to(losses.dtype)
    if mask is None:
        mask = torch.ones_like(losses, dtype=torch.bool)
    return losses.where(mask, 0.0).sum(), mask.sum()


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    # in at least fp32, because the sum over the vocabulary loses digits in 16 bits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (logits / temperature).log_softmax(dim=1)
