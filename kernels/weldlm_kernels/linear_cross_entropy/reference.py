"""What linear_cross_entropy means, in plain PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["linear_cross_entropy"]


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """loss = sum over labelled rows of logsumexp(logits) - logits[target], logits = h W^T + b.

    `softcap` c makes logits x into c tanh(x / c).
    Returns the sum and the number of rows whose target is not `ignore_index`.
    """
    logits = functional.linear(hidden, weight, bias)
    # log-softmax in at least fp32, because the sum over the vocabulary loses digits in 16 bits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    loss = functional.cross_entropy(logits, targets, ignore_index=ignore_index, reduction="sum")
    return loss, (targets != ignore_index).sum()
