"""Dropout in the Triton kernels of attention; dropout.py says what is drawn."""

import triton
import triton.language as tl

__all__ = ["are_kept", "draw_words", "grow_kept"]


@triton.jit
def draw_words(seed_ptr, head, tokens, IS_KEY: tl.constexpr):
    """The words of query tokens or key tokens under a head."""
    seed = tl.load(seed_ptr)
    if IS_KEY:
        seed = seed >> 32
    stream = seed.to(tl.uint32) ^ mix((2 * head + IS_KEY).to(tl.uint32))
    return mix(mix(stream) + tokens.to(tl.uint32))


@triton.jit
def are_kept(first_words, second_words, threshold):
    """Whether pairs of tokens are kept; the words broadcast against each other."""
    return (mix(first_words ^ second_words) >> 1).to(tl.int32) >= threshold


@triton.jit
def grow_kept(tile, keep_scale):
    """Makes up for what was dropped."""
    if keep_scale is not None:
        tile *= keep_scale
    return tile


@triton.jit
def mix(x):
    """A bijection of 32 bits."""
    x = x + tl.full([], 0x9E3779B9, tl.uint32)
    x = (x ^ (x >> 16)) * tl.full([], 0x7FEB352D, tl.uint32)
    x = (x ^ (x >> 15)) * tl.full([], 0x846CA68B, tl.uint32)
    return x ^ (x >> 16)
