"""KVCache: keys and values of the tokens that came before, in blocks of equal size.

All layers share one numbering of blocks, so a sequence is a list of block numbers and nothing is
copied when sequences come, go or share a beginning. Which block is whose is `block_pool`'s concern.
A cache of int8 keeps a scale for each head of a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from weldlm.config import ModelConfig
from weldlm.layers import Pages
from weldlm.memory import require_cache_memory
from weldlm_kernels import write_kv

__all__ = ["CacheStep", "KVCache"]

_SPLIT_LENGTH = 128  # keys that are summed together in a fixed order, where rows are independent

# keys, values and their scales
LayerViews = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


class KVCache:
    """Keys and values of `num_blocks` blocks of `block_size` tokens in every layer."""

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_size: int = 16,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        """Allocates the blocks.

        Args:
            config: decides layers, heads and widths.
            num_blocks: how many.
            block_size: tokens in each.
            dtype: of the keys and values a model writes, or int8.
            device: where they lie.

        Raises:
            ValueError: they do not fit into memory, or there are none.
            TypeError: no cache has this dtype.
        """
        if num_blocks < 1 or block_size < 1:
            raise ValueError(
                f"num_blocks {num_blocks} and block_size {block_size}; expected at least 1 each"
            )
        if not (dtype.is_floating_point and dtype.itemsize >= 2) and dtype != torch.int8:
            raise TypeError(
                f"the cache's dtype is {dtype}; expected float32, float16, bfloat16 or int8"
            )
        require_cache_memory(config, num_blocks, block_size, dtype=dtype, device=device)
        self.num_blocks, self.block_size = num_blocks, block_size
        shape = (2, config.num_layers, num_blocks, block_size, config.num_kv_heads)
        self._blocks = torch.empty((*shape, config.head_dim), dtype=dtype, device=device)
        self._scales = None
        if dtype == torch.int8:
            self._scales = torch.empty(shape, dtype=torch.float32, device=device)
        # made once: four views a layer and step take as long as a small kernel
        self.layers = [self._layer(layer) for layer in range(config.num_layers)]

    @property
    def device(self) -> torch.device:
        return self._blocks.device

    @property
    def num_bytes(self) -> int:
        return self._blocks.nbytes + (0 if self._scales is None else self._scales.nbytes)

    def copy(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Writes block `source` over block `target` of each pair; the targets are all different."""
        if not pairs:
            return
        sources, targets = torch.tensor(pairs, device=self.device).unbind(1)
        for x in (self._blocks, self._scales):
            if x is not None:
                x[:, :, targets] = x[:, :, sources]

    def step(
        self,
        block_table: np.ndarray,
        starts: Sequence[int],
        counts: Sequence[int],
        *,
        num_rows: int | None = None,
        num_sequences: int | None = None,
        rows_are_independent: bool = False,
    ) -> "CacheStep":
        """What one forward reads and writes.

        Args:
            block_table: [B, max_blocks] int32, blocks of each sequence in their order, those of the
                new tokens included.
            starts: [B], tokens of each sequence that the cache holds already.
            counts: [B], tokens of each sequence in the forward.
            num_rows: rows of the forward, where those behind the last token belong to nobody.
            num_sequences: sequences of the forward; those behind B have no keys.
            rows_are_independent: sums keys in an order that no other row has a say in.
        """
        begin, count = np.asarray(starts, dtype=np.int64), np.asarray(counts, dtype=np.int64)
        lengths = begin + count
        most_blocks = -(-int(lengths.max(initial=0)) // self.block_size)
        num_tokens = int(count.sum())
        sequence = np.repeat(np.arange(len(count)), count)
        places = np.arange(num_tokens) + (begin - count.cumsum() + count).repeat(count)
        slots = np.full(num_tokens if num_rows is None else num_rows, -1, dtype=np.int64)
        blocks = block_table[sequence, places // self.block_size].astype(np.int64)
        slots[:num_tokens] = blocks * self.block_size + places % self.block_size
        rest = 0 if num_sequences is None else num_sequences - len(count)
        return CacheStep(
            cache=self,
            block_table=_padded(block_table[:, :most_blocks], rest).to(self.device),
            lengths=_padded(lengths, rest).to(self.device),
            slots=torch.from_numpy(slots).to(self.device),
            split_length=_SPLIT_LENGTH if rows_are_independent else None,
        )

    def _layer(self, layer: int) -> LayerViews:
        keys, values = self._blocks[0, layer], self._blocks[1, layer]
        if self._scales is None:
            return keys, values, None, None
        return keys, values, self._scales[0, layer], self._scales[1, layer]


@dataclass(frozen=True, slots=True)
class CacheStep:
    """The cache as the layers of one forward see it."""

    cache: KVCache
    block_table: Tensor  # [B, max_blocks] int32
    lengths: Tensor  # [B] int32, with the new tokens
    slots: Tensor  # [T] int64, where the new tokens go
    split_length: int | None

    def append(self, layer: int, k: Tensor, v: Tensor) -> Pages:
        """Writes a layer's keys and values, [T, num_kv_heads, head_dim]; returns all so far."""
        pages = self.pages(layer)
        scales = {"key_scale": pages.key_scale, "value_scale": pages.value_scale}
        write_kv(k, v, pages.keys, pages.values, self.slots, **scales)
        return pages

    def pages(self, layer: int) -> Pages:
        """Where a layer's keys and values are, those of the batch not yet written."""
        keys, values, key_scale, value_scale = self.cache.layers[layer]
        return Pages(
            keys=keys,
            values=values,
            key_scale=key_scale,
            value_scale=value_scale,
            block_table=self.block_table,
            lengths=self.lengths,
            slots=self.slots,
            split_length=self.split_length,
        )


def _padded(rows: np.ndarray, num_more: int) -> Tensor:
    """int32 with so many zeros or rows of zeros behind."""
    widths = [(0, num_more), *[(0, 0)] * (rows.ndim - 1)]
    return torch.from_numpy(np.pad(rows, widths).astype(np.int32))
