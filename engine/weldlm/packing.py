"""The one batch layout of the engine: sequences packed end to end.

A forward takes a `PackedBatch` and nothing else: no padding, no mask. Padded input of other
libraries is packed at the border with `PackedBatch.from_padded` and its result unpacked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

__all__ = ["PackedBatch"]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Token ids of several sequences, end to end."""

    ids: Tensor  # [T] int64
    offsets: Tensor  # [B + 1] int32, cumulative lengths; rows behind the last belong to nobody
    positions: Tensor  # [T] int64, place of each token in its own sequence
    max_length: int  # of the longest sequence, on the host, so that no launch synchronizes
    token_types: Tensor | None = None  # [T] int64, segment of each token; all the first where None

    def __post_init__(self) -> None:
        if self.ids.dim() != 1 or self.positions.shape != self.ids.shape:
            raise ValueError(
                f"ids {tuple(self.ids.shape)} and positions {tuple(self.positions.shape)}; "
                "expected two equal shapes [T]"
            )
        if self.token_types is not None and self.token_types.shape != self.ids.shape:
            raise ValueError(
                f"token_types {tuple(self.token_types.shape)} and ids {tuple(self.ids.shape)}; "
                "expected two equal shapes [T]"
            )
        if self.offsets.dim() != 1 or self.offsets.shape[0] < 1:
            raise ValueError(f"offsets {tuple(self.offsets.shape)}; expected [num_sequences + 1]")

    @property
    def num_sequences(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def num_tokens(self) -> int:
        return self.ids.shape[0]

    @classmethod
    def from_sequences(
        cls, sequences: Sequence[Sequence[int] | Tensor], device: torch.device | str = "cpu"
    ) -> "PackedBatch":
        """Packs sequences of ids in the given order; empty ones are allowed."""
        parts = [torch.as_tensor(sequence, dtype=torch.int64) for sequence in sequences]
        ids = torch.cat([torch.empty(0, dtype=torch.int64), *parts])
        return cls.from_lengths(ids, [len(part) for part in parts]).to(device)

    @classmethod
    def from_lengths(
        cls, ids: Tensor, lengths: Sequence[int], *, starts: Sequence[int] | None = None
    ) -> "PackedBatch":
        """Names the sequences inside `ids` [T] by their lengths; the rest belongs to nobody.

        Args:
            ids: [T] int64.
            lengths: [B], tokens of each sequence.
            starts: [B], position of the first token of each sequence, 0 where None; a sequence
                whose earlier tokens lie in a cache goes on from there.

        Raises:
            ValueError: the lengths need more tokens than there are.
        """
        # numpy: torch would start its threads for this
        counts = np.asarray(lengths, dtype=np.int64)
        ends = counts.cumsum()
        used = int(ends[-1]) if len(ends) else 0
        if used > ids.shape[0]:
            raise ValueError(f"lengths sum to {used}, but only {ids.shape[0]} ids were given")
        shift = counts - ends
        if starts is not None:
            shift += np.asarray(starts, dtype=np.int64)
        positions = np.zeros(ids.shape[0], dtype=np.int64)
        positions[:used] = np.arange(used) + shift.repeat(counts)
        offsets = torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32))
        return cls(
            ids,
            offsets.to(ids.device),
            torch.from_numpy(positions).to(ids.device),
            max(lengths, default=0),
        )

    @classmethod
    def from_padded(
        cls,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> "PackedBatch":
        """Packs a padded batch of another library.

        Args:
            input_ids: [B, S] int64.
            attention_mask: [B, S], nonzero where a token is real; all where None.
            token_type_ids: [B, S] int64, segment of each token.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if input_ids.dim() != 2 or attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"input_ids {tuple(input_ids.shape)} and attention_mask "
                f"{tuple(attention_mask.shape)}; expected two equal shapes [B, S]"
            )
        if token_type_ids is not None and token_type_ids.shape != input_ids.shape:
            raise ValueError(
                f"token_type_ids {tuple(token_type_ids.shape)} and input_ids "
                f"{tuple(input_ids.shape)}; expected two equal shapes [B, S]"
            )
        is_real = attention_mask.bool()
        batch = cls.from_lengths(input_ids[is_real], is_real.sum(dim=1).tolist())
        if token_type_ids is None:
            return batch
        return replace(batch, token_types=token_type_ids[is_real])

    def framed(self, first_id: int, last_id: int) -> "PackedBatch":
        """Returns the batch with a token before and a token behind every sequence."""
        offsets = self.offsets.long()
        lengths = offsets.diff() + 2
        ids = self.ids.new_empty(int(lengths.sum()))
        ends = lengths.cumsum(0)
        is_inside = torch.ones_like(ids, dtype=torch.bool)
        is_inside[ends - lengths] = is_inside[ends - 1] = False
        ids[ends - lengths], ids[ends - 1] = first_id, last_id
        ids[is_inside] = self.ids[: int(offsets[-1])]
        return PackedBatch.from_lengths(ids, lengths.tolist())

    def to_padded(self, values: Tensor, attention_mask: Tensor) -> Tensor:
        """Lays packed `values` [T, ...] out as [B, S, ...], zero where `attention_mask` is."""
        padded = values.new_zeros(*attention_mask.shape, *values.shape[1:])
        padded[attention_mask.bool()] = values
        return padded

    def to(self, device: torch.device | str) -> "PackedBatch":
        token_types = self.token_types
        return replace(
            self,
            ids=self.ids.to(device, non_blocking=True),
            offsets=self.offsets.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            token_types=None if token_types is None else token_types.to(device, non_blocking=True),
        )
