"""Labels that follow from the ids alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from weldlm.packing import PackedBatch

__all__ = ["IGNORED", "causal_lm_labels", "seq2seq_targets"]

IGNORED = -100  # the label of a token that is not to be predicted; torch's own ignore_index


def causal_lm_labels(batch: PackedBatch) -> Tensor:
    """Returns the id that follows each token in its sequence, [T] int64.

    The last token of a sequence, and what lies outside every sequence, has the label -100.
    """
    labels = torch.full_like(batch.ids, IGNORED)
    offsets = batch.offsets.long()
    used = int(offsets[-1])
    if used > 1:
        labels[: used - 1] = batch.ids[1:used]
    ends = offsets[1:] - 1
    labels[ends[offsets.diff() > 0]] = IGNORED
    return labels


def seq2seq_targets(
    targets: Sequence[Sequence[int] | Tensor], start_id: int
) -> tuple[PackedBatch, Tensor]:
    """Returns what a decoder sees of targets that it is to write, and the labels.

    Each target is moved one place behind `start_id`; its ids are the labels, [T] int64.
    """
    parts = [torch.as_tensor(target, dtype=torch.int64) for target in targets]
    start = torch.tensor([start_id])
    shifted = [torch.cat((start, part))[: len(part)] for part in parts]
    labels = torch.cat([torch.empty(0, dtype=torch.int64), *parts])
    return PackedBatch.from_sequences(shifted), labels
