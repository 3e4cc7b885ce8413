"""paged_attention on a CPU in fp32: all pages end to end, for the packed attention there."""

import torch
from torch import Tensor

from weldlm_kernels.attention import attention
from weldlm_kernels.paged_attention.reference import read_pages

__all__ = ["paged_attention"]


def paged_attention(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    lengths: Tensor,
    q_offsets: Tensor,
    q_max_length: int,
    is_causal: bool,
    window: int | None,
    scale: float,
    softcap: float | None,
    alibi_slopes: Tensor | None,
    relative_bias: Tensor | None,
    relative_bias_max_distance: int,
    relative_bias_is_bidirectional: bool,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
    split_length: int | None,
) -> Tensor:
    """Returns out [T, H, D]; each sequence is summed by itself, which `split_length` asks for."""
    k_lengths: list[int] = lengths.tolist()
    k, v = (
        torch.cat(
            [cache.new_empty(0, *cache.shape[2:], dtype=q.dtype)]
            + [
                read_pages(cache, cache_scale, pages, length, q.dtype)
                for pages, length in zip(block_table, k_lengths, strict=True)
                if length > 0
            ]
        )
        for cache, cache_scale in ((key_cache, key_scale), (value_cache, value_scale))
    )
    out, _ = attention(
        q,
        k,
        v,
        q_offsets=q_offsets,
        k_offsets=torch.tensor([0, *k_lengths], dtype=torch.int64).cumsum(0).int(),
        q_max_length=q_max_length,
        k_max_length=max(k_lengths, default=0),
        is_causal=is_causal,
        window=window,
        scale=scale,
    )
    return out.contiguous()
