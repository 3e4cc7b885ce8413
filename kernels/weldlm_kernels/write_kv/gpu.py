"""write_kv in Triton: a program rotates, quantizes and writes some heads of some tokens.

One launch does all parts: the heads of q, if they are rotated, then those of k, then those of v.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from weldlm_kernels.cache_layout import require_equal_strides
from weldlm_kernels.write_kv.gpu_tiles import read_heads, write_heads

__all__ = ["rotary_write_kv", "write_kv"]


@triton.jit(do_not_specialize=["num_tokens"])
def write_kv_kernel(
    q_ptr,  # [T, H, D] or None
    k_ptr,  # [T, Hkv, D]
    v_ptr,  # [T, Hkv, D]
    out_ptr,  # [T, H, D], contiguous, or None
    key_cache_ptr,  # [blocks, BLOCK_SIZE, Hkv, D]
    value_cache_ptr,  # like key_cache_ptr
    key_scale_ptr,  # [blocks, BLOCK_SIZE, Hkv], contiguous, or None
    value_scale_ptr,  # like key_scale_ptr
    slots_ptr,  # [T]
    cos_ptr,  # [context_length, HALF] or None
    sin_ptr,  # like cos_ptr
    positions_ptr,  # [T] or None
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    stride_vt,
    stride_vh,
    stride_block,
    stride_slot,
    stride_head,
    num_tokens,
    num_heads,  # 0 without q
    num_kv_heads,
    HALF: tl.constexpr,
    IS_INTERLEAVED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    is_token = token < num_tokens
    part, q_parts = tl.program_id(1), tl.cdiv(num_heads, BLOCK_H)
    kv_parts = tl.cdiv(num_kv_heads, BLOCK_H)
    is_q = part < q_parts
    block = tl.where(is_q, part, (part - q_parts) % kv_parts)
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    head = block * BLOCK_H + tl.arange(0, BLOCK_H)
    is_token, is_head = token < num_tokens, head < tl.where(is_q, num_heads, num_kv_heads)
    tile = token, head, is_token[:, None] & is_head[None, :]
    slot = tl.load(slots_ptr + token, mask=is_token, other=-1)
    cache = stride_block, stride_slot, stride_head
    angles = cos_ptr, sin_ptr, positions_ptr

    if is_q:
        if q_ptr is not None:
            x = read_heads(
                q_ptr, tile, (stride_qt, stride_qh), angles, HALF, IS_INTERLEAVED, HEAD_DIM
            )
            # a token of q is the one slot of its block
            out = num_heads * HEAD_DIM, 0, HEAD_DIM
            write_heads(x, out_ptr, None, token, tile, out, num_heads, HEAD_DIM, 1)
    elif part < q_parts + kv_parts:
        x = read_heads(k_ptr, tile, (stride_kt, stride_kh), angles, HALF, IS_INTERLEAVED, HEAD_DIM)
        write_heads(
            x, key_cache_ptr, key_scale_ptr, slot, tile, cache, num_kv_heads, HEAD_DIM, BLOCK_SIZE
        )
    else:
        unturned = None, None, None
        x = read_heads(v_ptr, tile, (stride_vt, stride_vh), unturned, 0, False, HEAD_DIM)
        write_heads(
            x,
            value_cache_ptr,
            value_scale_ptr,
            slot,
            tile,
            cache,
            num_kv_heads,
            HEAD_DIM,
            BLOCK_SIZE,
        )


# 16 channels a thread of 4 warps. Not yet timed on a GPU.
_TILE_CHANNELS = 2048
_TILE_HEADS = 8


def write_kv(
    k: Tensor,
    v: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
    slots: Tensor,
) -> None:
    """Launches the writing of k and v."""
    caches = key_cache, value_cache, key_scale, value_scale
    _launch(None, k, v, caches, slots, None, is_interleaved=False)


def rotary_write_kv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
    slots: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    is_interleaved: bool,
) -> Tensor:
    """Launches the rotation of q and k and the writing of k and v; returns q rotated."""
    caches = key_cache, value_cache, key_scale, value_scale
    if cos.shape[1] == 0:
        _launch(None, k, v, caches, slots, None, is_interleaved=False)
        return q.clone(memory_format=torch.contiguous_format)
    return _launch(q, k, v, caches, slots, (cos, sin, positions), is_interleaved=is_interleaved)


def _launch(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    caches: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    slots: Tensor,
    angles: tuple[Tensor, Tensor, Tensor] | None,
    *,
    is_interleaved: bool,
) -> Tensor:
    num_tokens, num_kv_heads, head_dim = k.shape
    out = torch.empty_like(k if q is None else q, memory_format=torch.contiguous_format)
    if k.numel() == 0:
        return out
    k, v = _readable(k), _readable(v)
    q = None if q is None else _readable(q)
    num_heads = 0 if q is None else q.shape[1]
    block_h = min(_TILE_HEADS, triton.next_power_of_2(num_kv_heads))
    block_t = max(1, _TILE_CHANNELS // (block_h * triton.next_power_of_2(head_dim)))
    parts = triton.cdiv(num_heads, block_h) + 2 * triton.cdiv(num_kv_heads, block_h)
    with torch.cuda.device_of(k):
        write_kv_kernel[triton.cdiv(num_tokens, block_t), parts](
            q_ptr=q,
            k_ptr=k,
            v_ptr=v,
            out_ptr=None if q is None else out,
            **_cache_arguments(*caches),
            **_angle_arguments(angles, is_interleaved),
            slots_ptr=slots.contiguous(),
            stride_qt=0 if q is None else q.stride(0),
            stride_qh=0 if q is None else q.stride(1),
            stride_kt=k.stride(0),
            stride_kh=k.stride(1),
            stride_vt=v.stride(0),
            stride_vh=v.stride(1),
            num_tokens=num_tokens,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            HEAD_DIM=head_dim,
            BLOCK_T=block_t,
            BLOCK_H=block_h,
            num_warps=4,
        )
    return out


def _readable(x: Tensor) -> Tensor:
    return x if x.stride(2) == 1 else x.contiguous()


def _cache_arguments(
    key_cache: Tensor, value_cache: Tensor, key_scale: Tensor | None, value_scale: Tensor | None
) -> dict[str, Any]:
    require_equal_strides(key_cache, value_cache, key_scale, value_scale)
    if key_cache.dtype == torch.float8_e4m3fn:
        # its bits are computed, which takes no hardware of sm_89
        key_cache, value_cache = key_cache.view(torch.uint8), value_cache.view(torch.uint8)
    return {
        "key_cache_ptr": key_cache,
        "value_cache_ptr": value_cache,
        "key_scale_ptr": key_scale,
        "value_scale_ptr": value_scale,
        "stride_block": key_cache.stride(0),
        "stride_slot": key_cache.stride(1),
        "stride_head": key_cache.stride(2),
        "BLOCK_SIZE": key_cache.shape[1],
    }


def _angle_arguments(
    angles: tuple[Tensor, Tensor, Tensor] | None, is_interleaved: bool
) -> dict[str, Any]:
    cos, sin, positions = (None, None, None) if angles is None else angles
    return {
        "cos_ptr": None if cos is None else cos.contiguous(),
        "sin_ptr": None if sin is None else sin.contiguous(),
        "positions_ptr": None if positions is None else positions.contiguous(),
        "HALF": 0 if cos is None else cos.shape[1],
        "IS_INTERLEAVED": is_interleaved,
    }
