"""The loss as a mean over labels, however the rows are split into forwards.

Every micro-batch's summed loss is divided by the number of labels of the whole step, which is
counted on the host before the first forward; so a split changes rounding and nothing else.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from weldlm.heads import Model
from weldlm.objectives import MicroBatch
from weldlm.precision import Dtype, autocast

__all__ = ["accumulate_gradients", "mean_loss"]


def accumulate_gradients(
    model: Model, micro_batches: Sequence[MicroBatch], *, dtype: Dtype, scale: float = 1.0
) -> Tensor:
    """Adds the gradient of the mean loss over all labels to `.grad`; returns that loss, a scalar.

    The gradient is `scale` times too large. Nothing waits for the device.
    """
    num_labels = max(sum(micro_batch.num_labels for micro_batch in micro_batches), 1)
    shares = []
    for micro_batch in micro_batches:
        share = _loss_sum(model, micro_batch, dtype=dtype) / num_labels
        share.backward(torch.full_like(share, scale))
        shares.append(share.detach())
    return torch.stack(shares).sum()


def mean_loss(
    model: Model,
    micro_batches: Iterable[MicroBatch],
    *,
    dtype: Dtype,
    is_stopped: Callable[[], bool],
) -> tuple[float, int] | None:
    """Returns the mean loss without dropout and the number of labels; None where it was stopped."""
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
    return float(total) / max(num_labels, 1), num_labels


def _loss_sum(model: Model, micro_batch: MicroBatch, *, dtype: Dtype) -> Tensor:
    device = next(model.parameters()).device
    moved = micro_batch.to(device)
    with autocast(dtype, device):
        loss_sum: Tensor = model(*moved.arguments)[0]
    return loss_sum
