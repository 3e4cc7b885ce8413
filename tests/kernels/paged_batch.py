"""Batches whose keys and values lie in pages, with NaN wherever nothing may read."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["PagedBatch", "make_batch"]

# behind the last entry that may be read, the block table names a page that does not exist
NO_PAGE = 10**6


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """The tensors of paged_attention, and the same keys and values end to end."""

    q: Tensor  # [T, H, D]
    key_cache: Tensor  # [blocks, block_size, Hkv, D]
    value_cache: Tensor
    block_table: Tensor  # [B, max_blocks]
    lengths: Tensor  # [B]
    q_offsets: Tensor  # [B + 1]
    k: Tensor  # [S, Hkv, D]
    v: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The arguments of paged_attention."""
        names = ("q", "key_cache", "value_cache", "block_table", "lengths", "q_offsets")
        return {name: getattr(self, name) for name in names}


def make_batch(
    q_lengths: tuple[int, ...],
    lengths: tuple[int, ...],
    dtype: torch.dtype,
    *,
    num_heads: int = 4,
    num_kv_heads: int = 2,
    head_dim: int = 16,
    block_size: int = 16,
    num_behind: int = 0,
) -> PagedBatch:
    """Random queries, keys and values; pages lie in random order, tails and unused ones hold NaN.

    Args:
        q_lengths: queries of each sequence.
        lengths: its keys.
        num_behind: rows of NaN behind the last query.
    """
    generator = torch.Generator().manual_seed(1)

    def random(num_tokens: int, heads: int) -> Tensor:
        return torch.randn(num_tokens, heads, head_dim, generator=generator).to(dtype)

    k, v = random(sum(lengths), num_kv_heads), random(sum(lengths), num_kv_heads)
    num_blocks = [-(-length // block_size) for length in lengths]
    order = torch.randperm(sum(num_blocks) + 2, generator=generator).int()
    table = torch.full((len(lengths), max(num_blocks, default=0) + 1), NO_PAGE, dtype=torch.int32)
    firsts = offsets(tuple(num_blocks)).tolist()
    for row, (first, end) in enumerate(pairwise(firsts)):
        table[row, : end - first] = order[first:end]
    return PagedBatch(
        q=torch.cat([random(sum(q_lengths), num_heads), random(num_behind, num_heads) * torch.nan]),
        key_cache=_in_pages(k, lengths, table, len(order), block_size),
        value_cache=_in_pages(v, lengths, table, len(order), block_size),
        block_table=table,
        lengths=torch.tensor(lengths, dtype=torch.int32),
        q_offsets=offsets(q_lengths),
        k=k,
        v=v,
    )


def offsets(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def _in_pages(
    x: Tensor, lengths: tuple[int, ...], table: Tensor, num_pages: int, block_size: int
) -> Tensor:
    cache: Tensor = x.new_full((num_pages * block_size, *x.shape[1:]), torch.nan)
    for row, (start, end) in enumerate(pairwise(offsets(lengths).tolist())):
        token = torch.arange(end - start)
        page = table[row].long()[token // block_size]
        cache[page * block_size + token % block_size] = x[start:end]
    return cache.view(num_pages, block_size, *x.shape[1:])
