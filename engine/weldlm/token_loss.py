"""The loss as a mean over labels, however the rows are split into forwards.

Every micro-batch's summed loss is divided by the number of labels of the whole step, which is
counted on the host before the first forward; so a split, over ranks too, changes rounding and
nothing else.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from weldlm.distributed import Ranks
from weldlm.objectives import MicroBatch
from weldlm.precision import Dtype, autocast

__all__ = ["accumulate_gradients", "mean_loss"]


def accumulate_gradients(
    model: nn.Module,
    micro_batches: Sequence[MicroBatch],
    *,
    dtype: Dtype,
    scale: float = 1.0,
    num_labels: float | None = None,
    before_last: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Tensor:
    """Adds the gradient of the mean loss over all labels to `.grad`; returns that loss, a scalar.

    Nothing waits for the device.

    Args:
        model: or what is wrapped around it.
        micro_batches: at least one.
        dtype: of the matrix products.
        scale: how many times too large the gradient shall be.
        num_labels: by which the summed loss is divided; the labels of `micro_batches` where None.
        before_last: the context of all micro-batches but the last.
    """
    if num_labels is None:
        num_labels = max(sum(micro_batch.num_labels for micro_batch in micro_batches), 1)
    shares = []
    for place, micro_batch in enumerate(micro_batches, start=1):
        with nullcontext() if place == len(micro_batches) else before_last():
            share = _loss_sum(model, micro_batch, dtype=dtype) / num_labels
            share.backward(torch.full_like(share, scale))
        shares.append(share.detach())
    return torch.stack(shares).sum()


def mean_loss(
    model: nn.Module,
    micro_batches: Iterable[MicroBatch],
    *,
    dtype: Dtype,
    is_stopped: Callable[[], bool],
    ranks: Ranks | None = None,
) -> tuple[float, int] | None:
    """Returns the mean loss without dropout and the number of labels; None where it was stopped.

    Both are over the micro-batches of all `ranks`, of which each has as many.
    """
    device = next(model.parameters()).device
    total, num_labels = torch.zeros((), dtype=torch.float64, device=device), 0
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for micro_batch in micro_batches:
                if is_stopped():
                    return None
                total += _loss_sum(model, micro_batch, dtype=dtype)
                num_labels += micro_batch.num_labels
    finally:
        model.train(was_training)
    loss_sum, count = (ranks or Ranks()).total(float(total), num_labels)
    return loss_sum / max(count, 1), int(count)


def _loss_sum(model: nn.Module, micro_batch: MicroBatch, *, dtype: Dtype) -> Tensor:
    device = next(model.parameters()).device
    moved = micro_batch.to(device)
    with autocast(dtype, device):
        loss_sum: Tensor = model(*moved.arguments)[0]
    return loss_sum
