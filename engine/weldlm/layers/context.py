"""What all layers of one forward share."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from weldlm.layers.positions import RotaryTable
from weldlm.packing import PackedBatch

__all__ = ["Cache", "LayerContext", "Memory", "Pages"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Keys and values of a layer, as `paged_attention` takes them."""

    keys: Tensor  # [blocks, block_size, num_kv_heads, head_dim]
    values: Tensor  # like keys
    key_scale: Tensor | None  # [blocks, block_size, num_kv_heads], of quantized ones
    value_scale: Tensor | None  # like key_scale
    block_table: Tensor  # [B, max_blocks] int32
    lengths: Tensor  # [B] int32, with the tokens of the batch
    slots: Tensor  # [T] int64, where the tokens of the batch go
    split_length: int | None  # keys that are summed together, where rows shall be independent


class Cache(Protocol):
    """Keys and values of the tokens that came before a batch."""

    def append(self, layer: int, k: Tensor, v: Tensor) -> Pages:
        """Adds a layer's keys and values of the batch, [T, num_kv_heads, head_dim] each."""

    def pages(self, layer: int) -> Pages:
        """Where a layer's keys and values are, those of the batch not yet written."""


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
