"""rotary in Triton: a program rotates a block of tokens and heads and copies the other channels."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["rotary", "rotary_in_place"]


@triton.jit
def rotate(a, b, cos, sin):
    """(a, b) -> (a cos - b sin, b cos + a sin), in fp32."""
    a, b = a.to(tl.float32), b.to(tl.float32)
    return a * cos - b * sin, b * cos + a * sin


@triton.jit
def load_angles(cos_ptr, sin_ptr, positions_ptr, token, is_token, HALF, BLOCK_HALF: tl.constexpr):
    """Loads cosine and sine of the tokens' positions: [BLOCK_T, 1, BLOCK_HALF]."""
    channel = tl.arange(0, BLOCK_HALF)[None, :]
    position = tl.load(positions_ptr + token, mask=is_token, other=0)[:, None].to(tl.int64)
    mask = is_token[:, None] & (channel < HALF)
    cos = tl.load(cos_ptr + position * HALF + channel, mask=mask, other=0.0)
    sin = tl.load(sin_ptr + position * HALF + channel, mask=mask, other=0.0)
    return cos.to(tl.float32)[:, None, :], sin.to(tl.float32)[:, None, :]


@triton.jit
def copy_channels(x_ptr, out_ptr, x_row, out_row, is_row, START, STOP, BLOCK: tl.constexpr):
    """Copies the channels from START to STOP of each row."""
    channel = START + tl.arange(0, BLOCK)[None, None, :]
    mask = is_row & (channel < STOP)
    tl.store(out_ptr + out_row + channel, tl.load(x_ptr + x_row + channel, mask=mask), mask=mask)


@triton.jit
def rotary_halves_kernel(
    x_ptr,  # [T, num_heads, HEAD_DIM]
    cos_ptr,  # [context_length, HALF]
    sin_ptr,  # [context_length, HALF]
    positions_ptr,  # [T]
    out_ptr,  # [T, num_heads, HEAD_DIM], x itself in place
    tokens,
    num_heads,
    stride_x_token,
    stride_x_head,
    stride_out_token,
    stride_out_head,
    HALF: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_KEPT: tl.constexpr,
):
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :, None]
    channel = tl.arange(0, BLOCK_HALF)[None, None, :]
    is_token = token < tokens
    is_row = is_token[:, None, None] & (head < num_heads)
    mask = is_row & (channel < HALF)
    row = token.to(tl.int64)[:, None, None]
    x_row = row * stride_x_token + head * stride_x_head
    out_row = row * stride_out_token + head * stride_out_head

    cos, sin = load_angles(cos_ptr, sin_ptr, positions_ptr, token, is_token, HALF, BLOCK_HALF)
    a = tl.load(x_ptr + x_row + channel, mask=mask)
    b = tl.load(x_ptr + x_row + HALF + channel, mask=mask)

    a, b = rotate(a, b, cos, sin)

    tl.store(out_ptr + out_row + channel, a, mask=mask)
    tl.store(out_ptr + out_row + HALF + channel, b, mask=mask)
    if BLOCK_KEPT > 0:
        copy_channels(x_ptr, out_ptr, x_row, out_row, is_row, 2 * HALF, HEAD_DIM, BLOCK_KEPT)


@triton.jit
def rotary_neighbors_kernel(
    x_ptr,  # [T, num_heads, HEAD_DIM]
    cos_ptr,  # [context_length, HALF]
    sin_ptr,  # [context_length, HALF]
    positions_ptr,  # [T]
    out_ptr,  # [T, num_heads, HEAD_DIM], x itself in place
    tokens,
    num_heads,
    stride_x_token,
    stride_x_head,
    stride_out_token,
    stride_out_head,
    HALF: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_KEPT: tl.constexpr,
):
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :, None]
    channel = tl.arange(0, 2 * BLOCK_HALF)[None, None, :]
    is_token = token < tokens
    is_row = is_token[:, None, None] & (head < num_heads)
    mask = is_row & (channel < 2 * HALF)
    row = token.to(tl.int64)[:, None, None]
    x_row = row * stride_x_token + head * stride_x_head
    out_row = row * stride_out_token + head * stride_out_head

    cos, sin = load_angles(cos_ptr, sin_ptr, positions_ptr, token, is_token, HALF, BLOCK_HALF)
    pairs = tl.load(x_ptr + x_row + channel, mask=mask)

    a, b = tl.split(tl.reshape(pairs, [BLOCK_T, BLOCK_H, BLOCK_HALF, 2]))
    a, b = rotate(a, b, cos, sin)
    pairs = tl.reshape(tl.join(a, b), [BLOCK_T, BLOCK_H, 2 * BLOCK_HALF])

    tl.store(out_ptr + out_row + channel, pairs, mask=mask)
    if BLOCK_KEPT > 0:
        copy_channels(x_ptr, out_ptr, x_row, out_row, is_row, 2 * HALF, HEAD_DIM, BLOCK_KEPT)


@dataclass(frozen=True, slots=True)
class Tile:
    """What one program of 4 warps holds: `tokens` x `heads` x `half` pairs."""

    tokens: int
    heads: int
    half: int
    kept: int


# 32 channels a thread; with half of that sm_80 code spills. Not yet timed on a GPU.
_TILE_CHANNELS = 4096
_TILE_HEADS = 8


def _tile(num_heads: int, kept: int, half: int) -> Tile:
    heads = min(_TILE_HEADS, triton.next_power_of_2(num_heads))
    block_half = max(8, triton.next_power_of_2(half))
    block_kept = triton.next_power_of_2(kept) if kept else 0
    tokens = max(1, _TILE_CHANNELS // (heads * max(2 * block_half, block_kept)))
    return Tile(tokens=tokens, heads=heads, half=block_half, kept=block_kept)


def rotary(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool) -> Tensor:
    """Launches the rotation; `x` may have any strides over tokens and heads."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    x = x if x.stride(2) == 1 else x.contiguous()
    _launch(x, out, cos, sin, positions, is_interleaved)
    return out


def rotary_in_place(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool
) -> None:
    """Launches the rotation onto `x` itself; a program reads its pairs before it writes them."""
    if x.stride(2) == 1:
        _launch(x, x, cos, sin, positions, is_interleaved)
    else:
        x.copy_(rotary(x, cos, sin, positions, is_interleaved))


def _launch(
    x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool
) -> None:
    if x.numel() == 0:
        return
    tokens, num_heads, head_dim = x.shape
    half = cos.shape[1]
    # what is not rotated lies where it belongs in place
    tile = _tile(num_heads, 0 if out is x else head_dim - 2 * half, half)
    kernel = rotary_neighbors_kernel if is_interleaved else rotary_halves_kernel
    grid = (triton.cdiv(tokens, tile.tokens), triton.cdiv(num_heads, tile.heads))
    with torch.cuda.device_of(x):
        kernel[grid](
            x_ptr=x,
            cos_ptr=cos.contiguous(),
            sin_ptr=sin.contiguous(),
            positions_ptr=positions.contiguous(),
            out_ptr=out,
            tokens=tokens,
            num_heads=num_heads,
            stride_x_token=x.stride(0),
            stride_x_head=x.stride(1),
            stride_out_token=out.stride(0),
            stride_out_head=out.stride(1),
            HALF=half,
            HEAD_DIM=head_dim,
            BLOCK_T=tile.tokens,
            BLOCK_H=tile.heads,
            BLOCK_HALF=tile.half,
            BLOCK_KEPT=tile.kept,
            num_warps=4,
        )
