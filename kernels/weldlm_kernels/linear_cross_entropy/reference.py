"""What linear_cross_entropy means, in plain PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional

from weldlm_kernels.linear_cross_entropy.options import LossOptions

__all__ = ["linear_cross_entropy"]


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    row_weights: Tensor | None,
    options: LossOptions,
) -> tuple[Tensor, Tensor, Tensor]:
    """loss = sum over labelled rows of row_weight * (cross_entropy + z_loss * lse^2).

    With x = hidden W^T + b, capped, lse = logsumexp(x), e = label_smoothing and t the target:
    cross_entropy = lse - (1 - e) x[t] - e mean(x).
    Returns the sum, the number of labelled rows and, if asked for, of those among them in which
    the first of the largest logits is x[t].
    """
    logits = functional.linear(hidden, weight, bias)
    is_labelled = targets != options.ignore_index
    # log-softmax in at least fp32, because the sum over the vocabulary loses digits in 16 bits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if options.softcap is not None:
        logits = options.softcap * torch.tanh(logits / options.softcap)
    num_correct = targets.new_empty(0)
    if options.counts_correct:
        num_correct = ((logits.argmax(dim=1) == targets) & is_labelled).sum()
    losses = functional.cross_entropy(
        logits,
        targets,
        ignore_index=options.ignore_index,
        label_smoothing=options.label_smoothing,
        reduction="none",
    )
    if options.z_loss != 0.0:
        losses = losses + options.z_loss * logits.logsumexp(dim=1).square()
    if row_weights is not None:
        losses = losses * row_weights.to(losses.dtype)
    return losses.where(is_labelled, 0.0).sum(), is_labelled.sum(), num_correct
