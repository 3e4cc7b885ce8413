"""paged_attention: attention of packed queries to keys and values that lie in pages.

A cache is cut into blocks of `block_size` tokens; row b of `block_table` names the blocks of
sequence b in their order (Kwon et al. 2023, arXiv:2309.06180). Prompts and single new tokens mix in
one call. Where few queries meet many keys, the Triton kernels split the keys between programs and
merge by log-sum-exp (Flash-Decoding, Dao et al. 2023). For inference: there is no gradient.
"""

from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.cache_layout import require_cache
from weldlm_kernels.dtypes import refuse_gradient, require_floating_point
from weldlm_kernels.registration import register

__all__ = ["paged_attention"]

_SPLIT_UNIT = 128  # a multiple of the keys of every tile


def paged_attention(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    lengths: Tensor,
    q_offsets: Tensor,
    *,
    q_max_length: int,
    is_causal: bool,
    window: int | None = None,
    scale: float | None = None,
    relative_bias: Tensor | None = None,
    relative_bias_max_distance: int = 128,
    relative_bias_is_bidirectional: bool = False,
    alibi_slopes: Tensor | None = None,
    softcap: float | None = None,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
    split_length: int | None = None,
) -> Tensor:
    """Attends to the first `lengths[b]` keys of each sequence b; queries are its last tokens.

    Args:
        q: [T, num_heads, head_dim], fp32, fp16 or bf16 (fp64 takes the reference).
        key_cache, value_cache: [blocks, block_size, num_kv_heads, head_dim] in the dtype of `q`, or
            int8 or float8_e4m3fn with scales; num_heads is a multiple of num_kv_heads (GQA).
        block_table: [B, max_blocks] int32; entries behind the last key are not read.
        lengths: [B] int32, with the queries' own keys where `is_causal`.
        q_offsets: [B + 1] int32, cumulative query lengths; rows behind the last one give zeros.
        q_max_length: length of the longest query sequence, on the host (no synchronization).
        is_causal, window, scale, softcap, relative_bias...: as in `attention`.
        alibi_slopes: [num_heads]; scores are lowered by slope * |distance| (ALiBi).
        key_scale, value_scale: [blocks, block_size, num_kv_heads] fp32 or fp16, for int8 and fp8.
        split_length: sums keys in splits of so many, a multiple of 128, in a tile that is always
            the same: a query's bits depend on its own sequence alone. Takes memory for an fp32
            result of each split. Where None, the number of splits follows the batch's size.

    Returns:
        [T, num_heads, head_dim] in the dtype of `q`. A query without a visible key gives 0.

    Raises:
        ValueError, TypeError: shapes, dtypes or options do not fit.
        RuntimeError: an argument requires a gradient.
    """
    require_floating_point("q", q)
    optional = relative_bias, alibi_slopes, key_scale, value_scale
    refuse_gradient("paged_attention", (q, key_cache, value_cache, *optional))
    require_cache(q.dtype, key_cache, value_cache, key_scale, value_scale)
    _check(q, key_cache, block_table, lengths, q_offsets)
    _check_options(q, window, softcap, split_length, alibi_slopes)
    _check_relative_bias(q, relative_bias, relative_bias_is_bidirectional)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    pages = key_cache, value_cache, block_table, lengths, q_offsets, q_max_length
    bias = relative_bias, relative_bias_max_distance, relative_bias_is_bidirectional
    settings = is_causal, window, scale, softcap, alibi_slopes, *bias
    options = {"softcap": softcap, "relative_bias": relative_bias, "alibi_slopes": alibi_slopes}
    backend = choose("paged_attention", q, tuple(n for n in options if options[n] is not None))
    call = _op if torch.compiler.is_compiling() else _implementation
    return call(q, *pages, *settings, key_scale, value_scale, split_length, backend)


def _check(
    q: Tensor, key_cache: Tensor, block_table: Tensor, lengths: Tensor, q_offsets: Tensor
) -> None:
    shapes = f"q {tuple(q.shape)} and key_cache {tuple(key_cache.shape)}"
    if q.dim() != 3 or q.shape[2] != key_cache.shape[3]:
        raise ValueError(
            f"{shapes}; expected [T, num_heads, head_dim] and "
            "[blocks, block_size, num_kv_heads, head_dim] with one head_dim"
        )
    if key_cache.shape[2] == 0 or q.shape[1] % key_cache.shape[2]:
        raise ValueError(f"{shapes}; expected num_heads to be a multiple of num_kv_heads")
    batch = lengths.shape[0] if lengths.dim() == 1 else -1
    if block_table.dim() != 2 or block_table.shape[0] != batch or q_offsets.shape != (batch + 1,):
        raise ValueError(
            f"block_table {tuple(block_table.shape)}, lengths {tuple(lengths.shape)}, q_offsets "
            f"{tuple(q_offsets.shape)}; expected [B, max_blocks], [B] and [B + 1]"
        )
    for name, x in (("block_table", block_table), ("lengths", lengths), ("q_offsets", q_offsets)):
        if x.dtype != torch.int32:
            raise TypeError(f"{name} is {x.dtype}; expected int32; convert it with .int()")


def _check_options(
    q: Tensor,
    window: int | None,
    softcap: float | None,
    split_length: int | None,
    alibi_slopes: Tensor | None,
) -> None:
    for name, value in (("window", window), ("softcap", softcap)):
        if value is not None and value <= 0:
            raise ValueError(f"{name} is {value}; expected a value above 0, or None for none")
    if split_length is not None and (split_length <= 0 or split_length % _SPLIT_UNIT):
        raise ValueError(
            f"split_length is {split_length}; expected a multiple of {_SPLIT_UNIT}, or None"
        )
    num_heads = q.shape[1]
    if alibi_slopes is not None and alibi_slopes.shape != (num_heads,):
        raise ValueError(
            f"alibi_slopes {tuple(alibi_slopes.shape)}; expected [num_heads], ({num_heads},)"
        )


def _check_relative_bias(q: Tensor, relative_bias: Tensor | None, is_bidirectional: bool) -> None:
    if relative_bias is None:
        return
    if relative_bias.dim() != 2 or relative_bias.shape[1] != q.shape[1]:
        raise ValueError(
            f"relative_bias {tuple(relative_bias.shape)} and q {tuple(q.shape)}; expected "
            "[num_buckets, num_heads] with the heads of q"
        )
    least = 4 if is_bidirectional else 2
    if relative_bias.shape[0] < least:
        raise ValueError(f"relative_bias has {relative_bias.shape[0]} buckets; expected {least}")


def _implementation(*arguments: Any) -> Tensor:
    *inputs, backend = arguments
    return implementation("paged_attention", backend).paged_attention(*inputs)  # type: ignore[no-any-return]


def _fake(q: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(q, memory_format=torch.contiguous_format)


_op = register(
    "paged_attention(Tensor q, Tensor key_cache, Tensor value_cache, Tensor block_table,"
    " Tensor lengths, Tensor q_offsets, SymInt q_max_length, bool is_causal, SymInt? window,"
    " float scale, float? softcap, Tensor? alibi_slopes, Tensor? relative_bias,"
    " int relative_bias_max_distance, bool relative_bias_is_bidirectional, Tensor? key_scale,"
    " Tensor? value_scale, int? split_length, str backend) -> Tensor",
    _implementation,
    _fake,
)
