"""paged_attention in Triton: how the kernels of gpu_forward.py are launched.

Nothing here reads offsets, lengths or the block table, so no launch waits for the GPU. Caches are
read where they lie and never copied.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from weldlm_kernels.attention.reference import RelativeBias
from weldlm_kernels.cache_layout import require_equal_strides
from weldlm_kernels.paged_attention.gpu_forward import (
    paged_attention_kernel,
    paged_attention_merge_kernel,
)
from weldlm_kernels.paged_attention.gpu_sizes import (
    FEW_ROWS,
    MAX_HEAD_DIM,
    MERGE_WARPS,
    choose_blocks,
    choose_num_splits,
    has_fp8,
)

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
    """Launches the kernels; returns out [T, H, D]."""
    _check_head_dim(q.shape[2])
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    if out.numel() == 0:
        return out
    q = q if q.stride(2) == 1 else q.contiguous()
    bias = relative_bias, relative_bias_max_distance, relative_bias_is_bidirectional
    with torch.cuda.device_of(q):
        _launch(
            out,
            q_max_length,
            split_length,
            _caches(key_cache, value_cache, key_scale, value_scale, block_table)
            | _biases(*bias, alibi_slopes)
            | {"q_ptr": q, "stride_qt": q.stride(0), "stride_qh": q.stride(1)}
            | {"scale": scale, "softcap": softcap},
            {
                "lengths_ptr": lengths.contiguous(),
                "q_offsets_ptr": q_offsets.contiguous(),
                "num_tokens": q.shape[0],
                "num_sequences": lengths.shape[0],
                "group": q.shape[1] // key_cache.shape[2],
                "window": window,
                "split_length": split_length,
                "IS_CAUSAL": is_causal,
                "HEAD_DIM": q.shape[2],
            },
            num_keys=block_table.shape[1] * key_cache.shape[1],
        )
    return out


def _launch(
    out: Tensor,
    q_max_length: int,
    split_length: int | None,
    own: dict[str, Any],
    shared: dict[str, Any],
    *,
    num_keys: int,
) -> None:
    """Launches the kernel, with its own arguments and those it shares with the merge, and that."""
    num_tokens, num_heads, head_dim = out.shape
    group = shared["group"]
    # split to give the same bits in every batch, a query has the same tile in every batch
    is_short = split_length is None and q_max_length * group <= FEW_ROWS
    blocks = choose_blocks(out.dtype, own["key_ptr"].dtype, head_dim, "few" if is_short else "many")
    shared |= {"BLOCK_M": blocks.block_m, "BLOCK_N": blocks.block_n}
    # each sequence, and what lies behind the last, may begin within a block
    num_blocks = num_tokens * group // blocks.block_m + shared["num_sequences"] + 1
    grid = num_blocks, num_heads // group
    if split_length is None:
        num_splits = choose_num_splits(out.device, grid[0] * grid[1], num_keys)
    else:
        num_splits = max(1, triton.cdiv(num_keys, split_length))
    partial, lse = _workspace(out, num_splits)
    paged_attention_kernel[*grid, num_splits](
        **own,
        **shared,
        out_ptr=partial,
        lse_ptr=lse,
        num_warps=blocks.num_warps,
        num_stages=blocks.num_stages,
    )
    if lse is not None:
        paged_attention_merge_kernel[num_tokens, num_heads](
            **shared,
            partial_ptr=partial,
            lse_ptr=lse,
            out_ptr=out,
            num_splits=num_splits,
            num_warps=MERGE_WARPS,
        )


def _check_head_dim(head_dim: int) -> None:
    if head_dim > MAX_HEAD_DIM:
        raise ValueError(
            f"head_dim is {head_dim}; the Triton kernels take at most {MAX_HEAD_DIM}; "
            "call under weldlm_kernels.use_backend('reference')"
        )


def _workspace(out: Tensor, num_splits: int) -> tuple[Tensor, Tensor | None]:
    """Where the splits go: [T, H, num_splits, D] and [T, H, num_splits] in fp32, or `out` alone."""
    if num_splits == 1:
        return out, None
    num_tokens, num_heads, head_dim = out.shape
    partial = out.new_empty(num_tokens, num_heads, num_splits, head_dim, dtype=torch.float32)
    return partial, torch.empty_like(partial[..., 0], memory_format=torch.contiguous_format)


def _caches(
    key_cache: Tensor,
    value_cache: Tensor,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
    block_table: Tensor,
) -> dict[str, Any]:
    require_equal_strides(key_cache, value_cache, key_scale, value_scale)
    if key_cache.dtype == torch.float8_e4m3fn and not has_fp8():
        key_cache, value_cache = key_cache.view(torch.uint8), value_cache.view(torch.uint8)
    block_table = block_table if block_table.stride(1) == 1 else block_table.contiguous()
    return {
        "key_ptr": key_cache,
        "value_ptr": value_cache,
        "key_scale_ptr": key_scale,
        "value_scale_ptr": value_scale,
        "table_ptr": block_table,
        "stride_block": key_cache.stride(0),
        "stride_slot": key_cache.stride(1),
        "stride_head": key_cache.stride(2),
        "stride_table": block_table.stride(0),
        "BLOCK_SIZE": key_cache.shape[1],
    }


def _biases(
    relative_bias: Tensor | None,
    max_distance: int,
    is_bidirectional: bool,
    alibi_slopes: Tensor | None,
) -> dict[str, Any]:
    slopes = None if alibi_slopes is None else alibi_slopes.float().contiguous()
    if relative_bias is None:
        return {"slopes_ptr": slopes, "bias_ptr": None, "REACH": 0}
    # beyond, all distances share a bucket; buckets of one distance may go farther than the largest
    reach = max(max_distance, relative_bias.shape[0])
    distance = torch.arange(-reach, reach + 1, device=relative_bias.device)
    bias = RelativeBias(relative_bias.float(), max_distance, is_bidirectional)
    rows = bias.scores(distance[None]).contiguous()  # [H, 1, 2 * reach + 1]
    return {"slopes_ptr": slopes, "bias_ptr": rows, "REACH": reach}
