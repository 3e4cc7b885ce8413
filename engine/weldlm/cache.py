"""KVCache: keys and values of the tokens that came before, one slab a layer.

A slab has a slot of `capacity` tokens for each sequence and is allocated once. Sequences come and
go by a list of slots: nothing is copied when one leaves or another enters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from weldlm.config import ModelConfig
from weldlm.memory import require_cache_memory
from weldlm.packing import PackedBatch

__all__ = ["KVCache"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the rows of one batch are written and read, the same in every layer."""

    batch: PackedBatch
    num_tokens: int  # rows of the batch that belong to a sequence
    lengths: list[int]  # of each sequence, with its new tokens
    write: Tensor  # [num_tokens] int64, rows of the flat slab
    read: Tensor | slice  # [S] int64, or neighbors: rows of the flat slab
    k_offsets: Tensor  # [B + 1] int32


class KVCache:
    """Keys and values of `num_sequences` sequences, at most `capacity` tokens each."""

    def __init__(
        self,
        config: ModelConfig,
        num_sequences: int,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        if num_sequences < 1 or capacity < 1:
            raise ValueError(
                f"num_sequences {num_sequences} and capacity {capacity}; expected at least 1 each"
            )
        require_cache_memory(config, num_sequences, capacity, dtype=dtype, device=device)
        self.capacity = capacity
        self.lengths = [0] * num_sequences
        self._slots = list(range(num_sequences))
        self._free: list[int] = []
        shape = (
            2 * config.num_layers,
            num_sequences * capacity,
            config.num_kv_heads,
            config.head_dim,
        )
        slabs = torch.empty(shape, dtype=dtype, device=device)
        self._keys, self._values = slabs.chunk(2)  # [L, num_sequences * capacity, Hkv, D] each
        self._plan: _Plan | None = None

    @property
    def num_bytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    @property
    def num_free(self) -> int:
        """Number of sequences that `add` could take."""
        return len(self._free)

    def append(
        self, layer: int, k: Tensor, v: Tensor, batch: PackedBatch
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Writes a layer's keys and values of `batch` behind those of its sequences.

        Args:
            layer: number of the layer.
            k: [T, num_kv_heads, head_dim], not kept.
            v: like `k`.
            batch: the new tokens; its sequences are those of the cache, in the same order.

        Returns:
            k and v of all tokens so far, sequences end to end [S, num_kv_heads, head_dim], their
            offsets [B + 1] int32 and the length of the longest. They are valid until the next call.

        Raises:
            ValueError: the batch has another number of sequences, or one grows beyond the capacity.
        """
        if self._plan is None or self._plan.batch is not batch:
            self._plan = self._plan_for(batch)
        plan = self._plan
        keys, values = self._keys[layer], self._values[layer]
        keys[plan.write] = k[: plan.num_tokens]
        values[plan.write] = v[: plan.num_tokens]
        k_max_length = max(plan.lengths, default=0)
        if isinstance(plan.read, slice):
            return keys[plan.read], values[plan.read], plan.k_offsets, k_max_length
        k, v = keys.index_select(0, plan.read), values.index_select(0, plan.read)
        return k, v, plan.k_offsets, k_max_length

    def advance(self, batch: PackedBatch) -> None:
        """Counts the tokens of `batch` as past, after every layer has appended its own."""
        if self._plan is None or self._plan.batch is not batch:
            self._plan = self._plan_for(batch)
        self.lengths = self._plan.lengths
        self._plan = None

    def keep(self, indices: Sequence[int]) -> None:
        """Goes on with the sequences at `indices` only, in that order; the others leave.

        Raises:
            ValueError: an index is out of range or occurs twice.
        """
        if len(set(indices)) < len(indices) or not set(indices) <= set(range(len(self._slots))):
            raise ValueError(
                f"indices {list(indices)}; expected different numbers below {len(self._slots)}, "
                "the number of sequences"
            )
        slots = [self._slots[index] for index in indices]
        self._free += [slot for slot in self._slots if slot not in set(slots)]
        self._slots = slots
        self.lengths = [self.lengths[index] for index in indices]
        self._plan = None

    def add(self, num_sequences: int = 1) -> None:
        """Puts empty sequences behind the others, in the place of those that left.

        Raises:
            ValueError: fewer have left.
        """
        if num_sequences > len(self._free):
            raise ValueError(
                f"{num_sequences} sequences to add, but the cache has room for {len(self._free)}; "
                "let others leave with keep, or allocate it for more"
            )
        self._slots += [self._free.pop() for _ in range(num_sequences)]
        self.lengths = [*self.lengths, *[0] * num_sequences]
        self._plan = None

    def _plan_for(self, batch: PackedBatch) -> _Plan:
        if batch.num_sequences != len(self._slots):
            raise ValueError(
                f"the batch has {batch.num_sequences} sequences; expected {len(self._slots)}, "
                "those of the cache"
            )
        offsets = batch.offsets.tolist()
        new = [end - start for start, end in pairwise(offsets)]
        lengths = [old + more for old, more in zip(self.lengths, new, strict=True)]
        if max(lengths, default=0) > self.capacity:
            raise ValueError(
                f"a sequence would grow to {max(lengths)} tokens; the cache holds {self.capacity} "
                "tokens a sequence; allocate it with a larger capacity"
            )
        first = [slot * self.capacity for slot in self._slots]
        behind = [start + old for start, old in zip(first, self.lengths, strict=True)]
        device = self._keys.device
        return _Plan(
            batch=batch,
            num_tokens=offsets[-1],
            lengths=lengths,
            write=_rows(behind, new, device),
            # one sequence lies end to end as it is: a view instead of a copy
            read=(
                slice(first[0], first[0] + lengths[0])
                if len(first) == 1
                else _rows(first, lengths, device)
            ),
            k_offsets=torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32).to(device),
        )


def _rows(starts: Sequence[int], lengths: Sequence[int], device: torch.device) -> Tensor:
    """start, start + 1, ... for `length` rows of each pair, end to end; int64."""
    total = sum(lengths)
    table = torch.tensor([[*starts], [*lengths]], dtype=torch.int64).view(2, -1).to(device)
    shift = table[0] - (table[1].cumsum(0) - table[1])
    return torch.arange(total, device=device) + shift.repeat_interleave(table[1], output_size=total)
