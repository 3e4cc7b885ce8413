"""What the Triton kernels of paged_attention are composed of: places, ranges, scores, tiles.

Rows are the (token, head) pairs of a sequence whose heads share a key/value head, tokens first: row
r is head r % group of token r // group. So the few heads of a decoded token fill one tile of the
tensor cores, and a page is read once for all of them.
"""

import triton
import triton.language as tl

from weldlm_kernels.attention.gpu_tiles import padded

__all__ = [
    "LOG2_E",
    "count_starts",
    "end_whole",
    "load_tile",
    "locate_block",
    "place_keys",
    "see_keys",
    "split_keys",
    "store_tile",
    "weigh",
    "widen",
]

# exponentials are taken to base 2, which is what the hardware computes
LOG2_E = tl.constexpr(1.4426950408889634)
# offsets looked at in one step of a search
SEARCHED = tl.constexpr(128)


@triton.jit
def count_starts(q_offsets_ptr, place, num_sequences, group, BLOCK_M: tl.constexpr):
    """How many sequences start at or before `place`, a number of a block of rows.

    A sequence takes up to a block more than its rows fill, so that the number of its first block
    follows from its offset alone. With BLOCK_M = 0 `place` is a token instead.
    """
    count = 0
    for first in range(0, num_sequences + 1, SEARCHED):
        index = first + tl.arange(0, SEARCHED)
        is_there = index <= num_sequences
        start = tl.load(q_offsets_ptr + index, mask=is_there, other=0)
        if BLOCK_M > 0:
            start = start * group // BLOCK_M + index
        count += tl.sum((is_there & (start <= place)).to(tl.int32), axis=0)
    return count


@triton.jit
def locate_block(q_offsets_ptr, num_sequences, group, BLOCK_M: tl.constexpr):
    """The sequence of this program's block of rows, and the first of its rows."""
    block = tl.program_id(0)
    sequence = count_starts(q_offsets_ptr, block, num_sequences, group, BLOCK_M) - 1
    start = tl.load(q_offsets_ptr + sequence) * group // BLOCK_M + sequence
    return sequence, (block - start) * BLOCK_M


@triton.jit
def see_keys(
    first_row,
    shift,
    length,
    window,
    group,
    IS_CAUSAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The keys that a block of rows sees: their begin, aligned to a tile, and their end."""
    first = first_row // group + shift
    last = (first_row + BLOCK_M - 1) // group + shift
    begin, end = 0, length
    if IS_CAUSAL:
        end = tl.minimum(last + 1, length)
    if window is not None:
        begin = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N
        end = tl.minimum(last + window, end)
    return begin, tl.maximum(end, begin)


@triton.jit
def end_whole(position, begin, end, IS_CAUSAL: tl.constexpr, BLOCK_N: tl.constexpr):
    """Where the tiles end that a row at `position`, and so each behind it, sees whole."""
    stop = end
    if IS_CAUSAL:
        stop = tl.minimum(position + 1, end)
    return tl.maximum(stop // BLOCK_N * BLOCK_N, begin)


@triton.jit
def split_keys(begin, end, split_length, num_splits, BLOCK_N: tl.constexpr):
    """Where split 0 begins, how many keys a split has, and the range of splits from begin to end.

    A split of a given length begins at the same keys for every row. Else the keys of each block of
    rows are dealt out to all splits.
    """
    if split_length is not None:
        origin, size = 0, split_length
    else:
        origin = begin
        size = tl.maximum(tl.cdiv(tl.cdiv(end - begin, BLOCK_N), num_splits), 1) * BLOCK_N
    return origin, size, (begin - origin) // size, tl.cdiv(end - origin, size)


@triton.jit
def place_keys(table_ptr, keys, length, IS_EDGE: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    """The page of each key and its slot there; no entry of the table behind `length` is read."""
    if IS_EDGE:
        page = tl.load(table_ptr + keys // BLOCK_SIZE, mask=keys < length, other=0)
    else:
        page = tl.load(table_ptr + keys // BLOCK_SIZE)
    return page.to(tl.int64), keys % BLOCK_SIZE


@triton.jit
def load_tile(base_ptr, places, is_inside, IS_MASKED: tl.constexpr, SIZE: tl.constexpr):
    """A row of SIZE columns at each place, padded to a tile with zeros."""
    columns = tl.arange(0, padded(SIZE))
    pointers = base_ptr + places[:, None] + columns[None, :]
    if IS_MASKED:
        tile = tl.load(pointers, mask=is_inside[:, None] & (columns < SIZE)[None, :], other=0.0)
    elif padded(SIZE) > SIZE:
        tile = tl.load(pointers, mask=(columns < SIZE)[None, :], other=0.0)
    else:
        tile = tl.load(pointers)
    return tile


@triton.jit
def store_tile(base_ptr, places, tile, is_inside, SIZE: tl.constexpr):
    """Stores the rows of a tile that are inside, SIZE columns of each."""
    columns = tl.arange(0, padded(SIZE))
    pointers = base_ptr + places[:, None] + columns[None, :]
    mask = is_inside[:, None] & (columns < SIZE)[None, :]
    tl.store(pointers, tile.to(base_ptr.dtype.element_ty), mask=mask)


@triton.jit
def widen(tile, dtype: tl.constexpr):
    """A tile of a cache in the dtype of the product, which holds each value exactly.

    uint8 are the bits of e4m3: shifted they are those of an fp16 whose exponent is 8 too low. The
    conversion of the hardware needs sm_89.
    """
    if tile.dtype == dtype:
        return tile
    if tile.dtype == tl.uint8:
        bits = tile.to(tl.uint16)
        bits = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
        return (bits.to(tl.float16, bitcast=True) * 256.0).to(dtype)
    return tile.to(tl.float32).to(dtype)


@triton.jit
def weigh(
    scores,  # [BLOCK_M, BLOCK_N]
    distance,  # [BLOCK_M, BLOCK_N], place of the key less that of the query
    heads,  # [BLOCK_M]
    slopes_ptr,
    bias_ptr,
    scale,
    softcap,
    REACH: tl.constexpr,
):
    """Scores with their scale, bias and cap, in units of log2."""
    if slopes_ptr is None and bias_ptr is None and softcap is None:
        scores *= scale * LOG2_E
    else:
        scores *= scale
        if bias_ptr is not None:
            place = tl.minimum(tl.maximum(distance, -REACH), REACH) + REACH
            scores += tl.load(bias_ptr + (heads * (2 * REACH + 1))[:, None] + place)
        if slopes_ptr is not None:
            scores -= tl.load(slopes_ptr + heads)[:, None] * tl.abs(distance).to(tl.float32)
        if softcap is not None:
            scores = softcap * tanh(scores / softcap)
        scores *= LOG2_E
    return scores


@triton.jit
def tanh(x):
    """Within 2 roundings: near 0, where 1 - 2 / (exp(2 x) + 1) cancels, by Cephes' polynomial."""
    z = x * x
    p = -5.70498872745e-3 * z + 2.06390887954e-2
    p = (p * z - 5.37397155531e-2) * z + 1.33314422036e-1
    p = (p * z - 3.33332819422e-1) * z
    small = x + x * p
    large = 1.0 - 2.0 / (tl.exp2(tl.abs(x) * (2.0 * LOG2_E)) + 1.0)
    large = tl.where(x < 0.0, -large, large)
    return tl.where(tl.abs(x) < 0.625, small, large)
