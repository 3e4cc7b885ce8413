"""What all layers of one forward share."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from weldlm.layers.positions import RotaryTable
from weldlm.packing import PackedBatch

__all__ = ["Cache", "LayerContext", "Memory"]


class Cache(Protocol):
    """Keys and values of the tokens that came before a batch."""

    def append(
        self, layer: int, k: Tensor, v: Tensor, batch: PackedBatch
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Adds a layer's keys and values of `batch`, each [T, num_kv_heads, head_dim].

        Returns:
            k and v of all tokens so far, sequences end to end [S, num_kv_heads, head_dim], their
            offsets [B + 1] int32 and the length of the longest.
        """

    def advance(self, batch: PackedBatch) -> None:
        """Counts the tokens of `batch` as past, after all layers added theirs."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decoder reads of its encoder: one source for each of its sequences."""

    states: Tensor  # [S, hidden_size], sources end to end
    offsets: Tensor  # [B + 1] int32
    max_length: int
    # of each layer, [S, num_kv_heads, head_dim]; none where the layers are to compute them
    keys_and_values: tuple[tuple[Tensor, Tensor], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerContext:
    """The batch, and what stands around its tokens."""

    batch: PackedBatch
    cache: Cache | None = None
    memory: Memory | None = None
    table: RotaryTable | None = None
    local_table: RotaryTable | None = None  # of windowed layers, where it differs
    relative_bias: Tensor | None = None  # [num_buckets, num_heads]
