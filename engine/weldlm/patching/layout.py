"""Where the real tokens of a padded batch are, and how they get out of it and back.

Layers of transformers take [B, S, ...]. Packed, they get [1, T, ...]: the real tokens of all
sequences end to end, as one sequence; only attention has to know where each begins. The layout
travels to it as the keyword argument `packing`, which the layers hand on like any other.
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Layout", "Packing", "flattened_layout", "full_layout", "read_layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The sequences of a batch."""

    batch_size: int  # rows; there are more sequences than rows where a row holds several
    padded_length: int
    lengths: tuple[int, ...]  # of the sequences, on the host
    offsets: Tensor  # [B + 1] int32, cumulative lengths
    rows: Tensor | None  # [T] int64, places in the flattened batch; None where all are real

    @property
    def max_length(self) -> int:
        return max(self.lengths, default=0)

    def pack(self, x: Tensor) -> Tensor:
        """[B, S, ...] -> [1, T, ...]; unchanged where nothing is padding."""
        if self.rows is None:
            return x
        return x.flatten(0, 1).index_select(0, self.rows).unsqueeze(0)

    def unpack(self, x: Tensor) -> Tensor:
        """[1, T, ...] -> [B, S, ...], zeros where padding was."""
        if self.rows is None or x.shape[:2] == (self.batch_size, self.padded_length):
            return x
        places = self.batch_size * self.padded_length
        padded = x.new_zeros(places, *x.shape[2:]).index_copy(0, self.rows, x.squeeze(0))
        unpacked: Tensor = padded.unflatten(0, (self.batch_size, self.padded_length))
        return unpacked


@dataclass(frozen=True, slots=True)
class Packing:
    """What attention has to know of a batch."""

    own: Layout
    memory: Layout | None = None  # of the encoder, which cross-attention reads


def full_layout(batch_size: int, length: int, device: torch.device) -> Layout:
    """The layout of a batch without padding."""
    offsets = torch.arange(batch_size + 1, dtype=torch.int32, device=device) * length
    return Layout(batch_size, length, (length,) * batch_size, offsets, None)


def flattened_layout(position_ids: Tensor) -> Layout:
    """The layout of rows [B, S] without padding that hold sequences end to end.

    As transformers reads `position_ids`: a sequence begins where they do not count on.
    """
    batch_size, length = position_ids.shape
    is_start = functional.pad(position_ids.diff(dim=1) != 1, (1, 0), value=True)
    starts = is_start.flatten().nonzero().squeeze(1).tolist()  # one synchronization
    bounds = [*starts, batch_size * length]
    offsets = torch.tensor(bounds, dtype=torch.int32, device=position_ids.device)
    lengths = tuple(end - start for start, end in pairwise(bounds))
    return Layout(batch_size, length, lengths, offsets, None)


def read_layout(attention_mask: Tensor) -> Layout | None:
    """The layout of `attention_mask` [B, S], nonzero where a token is real.

    None where the real tokens of a row are not next to each other: packed, they would come closer,
    which windows and relative positions see. None, too, where a row has no real token: what
    transformers' softmax over nothing gives is not what packed attention does.
    """
    is_real = attention_mask != 0
    batch_size, length = is_real.shape
    edges = functional.pad(is_real.to(torch.int8), (1, 1)).diff(dim=1) > 0
    numbers = torch.stack((is_real.sum(dim=1), edges.sum(dim=1))).tolist()  # one synchronization
    lengths, num_runs = (tuple(row) for row in numbers)
    if any(runs != 1 for runs in num_runs):
        return None
    if all(each == length for each in lengths):
        return full_layout(batch_size, length, is_real.device)
    offsets = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=is_real.device)
    rows = is_real.flatten().nonzero().squeeze(1)
    return Layout(batch_size, length, lengths, offsets, rows)
