"""What the Triton kernel of write_kv is composed of: heads are read, rotated, quantized, written.

A tile holds all channels of some heads of some tokens: [tokens, heads, channels].
"""

import triton
import triton.language as tl

__all__ = ["read_heads", "write_heads"]

# 1.5 * 2^23: a small number added to it is rounded to an integer, to even where halfway
ROUNDING = tl.constexpr(12582912.0)
ROUNDING_BITS = tl.constexpr(0x4B400000)


@triton.constexpr_function
def padded(size):
    """The width of a tile of `size` channels, which has at least a pair."""
    return max(2, triton.next_power_of_2(size))


@triton.jit
def read_heads(
    x_ptr,
    tile,  # token [BLOCK_T], head [BLOCK_H], is_inside [BLOCK_T, BLOCK_H]
    strides,  # of a token and of a head
    angles,  # cos_ptr, sin_ptr and positions_ptr, or None each
    HALF: tl.constexpr,
    IS_INTERLEAVED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
):
    """Heads [BLOCK_T, BLOCK_H, D] in the dtype of x, rotated where there are angles; 0 outside."""
    token, head, is_inside = tile
    cos_ptr, sin_ptr, positions_ptr = angles
    channel = tl.arange(0, padded(HEAD_DIM))
    pointers = x_ptr + (token[:, None] * strides[0] + head[None, :] * strides[1])[:, :, None]
    mask = is_inside[:, :, None] & (channel < HEAD_DIM)[None, None, :]
    x = tl.load(pointers + channel[None, None, :], mask=mask, other=0.0)
    if cos_ptr is not None:
        is_rotated = channel < 2 * HALF
        if IS_INTERLEAVED:
            is_first, angle = channel % 2 == 0, channel // 2
            a, b = tl.split(tl.reshape(x, [x.shape[0], x.shape[1], x.shape[2] // 2, 2]))
            partner = tl.reshape(tl.join(b, a), x.shape)
        else:
            is_first, angle = channel < HALF, channel % HALF
            other = tl.where(is_first, channel + HALF, channel - HALF)[None, None, :]
            partner = tl.load(pointers + other, mask=mask & is_rotated[None, None, :], other=0.0)
        is_token = tl.max(is_inside.to(tl.int32), axis=1) > 0
        position = tl.load(positions_ptr + token, mask=is_token, other=0).to(tl.int64)
        places = position[:, None] * HALF + angle[None, :]
        is_angle = is_token[:, None] & is_rotated[None, :]
        cos = tl.load(cos_ptr + places, mask=is_angle, other=0.0).to(tl.float32)
        sin = tl.load(sin_ptr + places, mask=is_angle, other=0.0).to(tl.float32)
        sin = tl.where(is_first[None, :], -sin, sin)
        # (a, b) -> (a cos - b sin, b cos + a sin)
        turned = x.to(tl.float32) * cos[:, None, :] + partner.to(tl.float32) * sin[:, None, :]
        x = tl.where(is_rotated[None, None, :], turned.to(x.dtype), x)
    return x


@triton.jit
def write_heads(
    x,  # [BLOCK_T, BLOCK_H, D]
    cache_ptr,
    scale_ptr,
    slot,  # [BLOCK_T]
    tile,  # as for read_heads
    strides,  # of a block, of a slot and of a head
    num_heads,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):
    """Stores heads at their slots, quantized where there are scales; nowhere at a slot of -1."""
    _, head, is_inside = tile
    channel = tl.arange(0, padded(HEAD_DIM))
    places = slot // BLOCK_SIZE * strides[0] + slot % BLOCK_SIZE * strides[1]
    places = places[:, None] + head[None, :] * strides[2]
    is_stored = is_inside & (slot >= 0)[:, None]
    if scale_ptr is not None:
        x, scale = quantize(x, cache_ptr.dtype.element_ty, scale_ptr.dtype.element_ty)
        tl.store(scale_ptr + slot[:, None] * num_heads + head[None, :], scale, mask=is_stored)
    pointers = cache_ptr + places[:, :, None] + channel[None, None, :]
    mask = is_stored[:, :, None] & (channel < HEAD_DIM)[None, None, :]
    tl.store(pointers, x.to(cache_ptr.dtype.element_ty), mask=mask)


@triton.jit
def quantize(x, dtype: tl.constexpr, scale_dtype: tl.constexpr):
    """x / scale in steps of int8, or in the bits of e4m3, and the scale of each head."""
    x = x.to(tl.float32)
    MOST: tl.constexpr = 127.0 if dtype == tl.int8 else 448.0
    scale = tl.div_rn(tl.max(tl.abs(x), axis=2), MOST).to(scale_dtype)
    divisor = scale.to(tl.float32)
    divisor = tl.where(divisor == 0.0, 1.0, divisor)
    steps = tl.div_rn(x, tl.broadcast_to(divisor[:, :, None], x.shape))
    steps = tl.minimum(tl.maximum(steps, -MOST), MOST)
    steps = round_to_integer(steps) if dtype == tl.int8 else round_to_e4m3(steps)
    return steps.to(dtype), scale


@triton.jit
def round_to_integer(x):
    return (x + ROUNDING).to(tl.int32, bitcast=True) - ROUNDING_BITS


@triton.jit
def round_to_e4m3(x):
    """The bits of e4m3: exponents are 120 lower than in fp32, of the mantissa 3 bits are left."""
    sign = (x.to(tl.int32, bitcast=True) >> 24) & 0x80
    x = tl.abs(x)
    bits = x.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3)
    # below 2^-6 the values lie 2^-9 apart, and their bits count them
    subnormal = round_to_integer(x * 512.0)
    return sign | tl.where(x < 0.015625, subnormal, normal)
