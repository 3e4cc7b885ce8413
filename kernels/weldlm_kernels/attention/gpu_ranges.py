"""Which tiles of keys a block of rows sees, and the other way round.

Rows are positions of queries and keys positions of keys, both within their sequence. `shift` =
k_length - q_length aligns the ends: under a causal mask a row sees the keys up to row + shift, in a
window it sees those that are less than `window` away from row + shift. Tiles that a block sees as a
whole need no mask; the others are at the edge, and in a window they lie on both sides of the whole
ones. One loop takes both sides: from position `jump` on it goes `gap` farther.
"""

import triton
import triton.language as tl

__all__ = ["is_visible", "key_range", "row_range", "skip"]


@triton.jit
def is_visible(rows, keys, shift, window, IS_CAUSAL: tl.constexpr):
    """Whether rows see keys under a causal mask or in a window; the two broadcast."""
    if IS_CAUSAL:
        visible = keys <= rows + shift
        if window is not None:
            visible = visible & (keys > rows + (shift - window))
    else:
        visible = (keys > rows + (shift - window)) & (keys < rows + (shift + window))
    return visible


@triton.jit
def skip(position, jump, gap, window):
    """Where in the sequence the tile at a position of a range begins."""
    if window is not None:
        position += tl.where(position >= jump, gap, 0)
    return position


@triton.jit
def key_range(
    first_row,
    shift,
    k_length,
    window,
    IS_EDGE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The keys a block of rows sees: in tiles that need no mask or, at the edge, in the others."""
    whole, end = k_length // BLOCK_N * BLOCK_N, k_length
    if IS_CAUSAL:
        whole = tl.maximum(first_row + shift + 1, 0) // BLOCK_N * BLOCK_N
        end = tl.minimum(first_row + shift + BLOCK_M, k_length)
    elif window is not None:
        seen_by_all = tl.minimum(tl.maximum(first_row + shift + window, 0), k_length)
        whole = seen_by_all // BLOCK_N * BLOCK_N
        end = tl.minimum(first_row + shift + window + BLOCK_M - 1, k_length)
    begin, jump, gap = 0, 0, 0
    if window is not None:
        first = first_row + shift - window + 1
        jump = tl.cdiv(tl.maximum(first + BLOCK_M - 1, 0), BLOCK_N) * BLOCK_N
        if IS_EDGE:
            begin = tl.maximum(first, 0) // BLOCK_N * BLOCK_N
            gap = tl.maximum(whole - jump, 0)
            end -= gap
        else:
            begin, end = jump, whole
    elif IS_EDGE:
        begin = whole
    else:
        end = whole
    return begin, end, jump, gap


@triton.jit
def row_range(
    first_key,
    shift,
    q_length,
    window,
    IS_EDGE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The rows that see a block of keys: in tiles without a mask or, at the edge, in the others.

    A tile may pass q_length: rows from there on are zeros, which need no mask.
    """
    begin, end, jump, gap = 0, q_length, 0, 0
    if window is not None:
        first = first_key - shift
        if not IS_CAUSAL:
            first -= window - 1
        jump = tl.cdiv(tl.maximum(first + BLOCK_N - 1, 0), BLOCK_M) * BLOCK_M
        seen_to = first_key - shift + window
        whole = tl.maximum(seen_to, 0) // BLOCK_M * BLOCK_M
        whole = tl.where(seen_to >= q_length, q_length, whole)
        if IS_EDGE:
            begin = tl.maximum(first, 0) // BLOCK_M * BLOCK_M
            gap = tl.maximum(whole - jump, 0)
            end = tl.minimum(seen_to + BLOCK_N - 1, q_length) - gap
        else:
            begin, end = jump, whole
    elif IS_CAUSAL:
        whole = tl.cdiv(tl.maximum(first_key + BLOCK_N - 1 - shift, 0), BLOCK_M) * BLOCK_M
        whole = tl.minimum(whole, q_length)
        if IS_EDGE:
            begin = tl.maximum(first_key - shift, 0) // BLOCK_M * BLOCK_M
            end = whole
        else:
            begin = whole
    return begin, end, jump, gap
