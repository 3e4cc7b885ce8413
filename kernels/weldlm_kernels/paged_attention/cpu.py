"""paged_attention on a CPU: fp32 queries in C++, caches in fp32, int8 or fp8.

A page is read once for all query heads that share it. Threads take turns at (rows, key/value head,
split of the keys); the splits are always the same, so that a query's bits depend on its own
sequence alone, with or without `split_length`.
"""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.attention.bias_table import build_bias_table
from weldlm_kernels.attention.offsets import read_offsets
from weldlm_kernels.attention.options import Options
from weldlm_kernels.cpu_cache import ELEMENTS, cache_view

__all__ = ["paged_attention"]

# keys of a split: enough to pay for its merge, few enough to share out one sequence
SPLIT_LENGTH = 256


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
    """Returns out [T, H, D]."""
    q = q if q.stride(2) == 1 else q.contiguous()
    block_table, lengths = block_table.contiguous(), lengths.contiguous()
    q_offsets = q_offsets.contiguous()
    bias = relative_bias, relative_bias_max_distance, relative_bias_is_bidirectional
    table = build_bias_table(Options(is_causal, window, scale, *bias, None, softcap, 0.0, None))
    slopes = None if alibi_slopes is None else alibi_slopes.float().contiguous()
    keys, values = cache_view(key_cache, key_scale), cache_view(value_cache, value_scale)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    is_done = _cpu.paged_attention(
        (q.data_ptr(), q.stride(0), q.stride(1)),
        keys.fields,
        values.fields,
        ELEMENTS[key_cache.dtype],
        (block_table.data_ptr(), lengths.data_ptr(), q_offsets.data_ptr()),
        out.data_ptr(),
        (
            q.shape[0],
            lengths.shape[0],
            *key_cache.shape[:2],
            block_table.shape[1],
            q.shape[1],
            key_cache.shape[2],
            q.shape[2],
            split_length or SPLIT_LENGTH,
        ),
        (
            is_causal,
            window or 0,
            scale,
            softcap or 0.0,
            0 if slopes is None else slopes.data_ptr(),
            0 if table is None else table.values.data_ptr(),
            0 if table is None else table.reach,
        ),
    )
    if not is_done:
        _refuse(key_cache, block_table, lengths, q_offsets, q.shape[0])
    return out


def _refuse(
    key_cache: Tensor, block_table: Tensor, lengths: Tensor, q_offsets: Tensor, num_tokens: int
) -> None:
    """Says which offsets, lengths or pages do not exist.

    Raises:
        ValueError: always.
    """
    read_offsets("q_offsets", q_offsets, num_tokens)
    num_blocks, block_size = key_cache.shape[:2]
    room = block_table.shape[1] * block_size
    for length in lengths.tolist():
        if not 0 <= length <= room:
            raise ValueError(
                f"a sequence has length {length}, but its {block_table.shape[1]} blocks hold "
                f"{room} tokens; expected more entries in block_table"
            )
    raise ValueError(
        f"block_table names a block outside the cache; expected 0 to {num_blocks - 1} for every "
        "block that holds a key"
    )
