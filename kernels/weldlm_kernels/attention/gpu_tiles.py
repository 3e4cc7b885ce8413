"""What the Triton kernels of attention are composed of: places in the batch, ranges, masks, tiles.

Rows are positions of queries and keys positions of keys, both within their sequence. `shift` =
k_length - q_length aligns the ends: under a causal mask a row sees the keys up to row + shift.
"""

import triton
import triton.language as tl

__all__ = [
    "clear_rows",
    "is_visible",
    "key_range",
    "load_rows",
    "locate",
    "padded",
    "row_range",
    "span",
    "store_rows",
]


@triton.constexpr_function
def padded(size):
    """The width of a tile of `size` columns: a power of two, and what a dot takes at least."""
    return max(16, triton.next_power_of_2(size))


@triton.jit
def locate(num_blocks, num_heads):
    """Which block, head and sequence this program works on; blocks of a head are neighbors."""
    program = tl.program_id(0)
    block = program % num_blocks
    head = program // num_blocks % num_heads
    sequence = program // (num_blocks * num_heads)
    return block, head.to(tl.int64), sequence


@triton.jit
def span(offsets_ptr, sequence, num_sequences, num_tokens):
    """First token and length of a sequence; number num_sequences is what lies behind the last."""
    start = tl.load(offsets_ptr + sequence)
    end = tl.load(offsets_ptr + sequence + 1, mask=sequence < num_sequences, other=num_tokens)
    return start.to(tl.int64), (end - start).to(tl.int32)


@triton.jit
def is_visible(rows, keys, shift, k_length, IS_CAUSAL: tl.constexpr):
    """Whether rows see keys; the two broadcast against each other."""
    visible = keys < k_length
    if IS_CAUSAL:
        visible = visible & (keys <= rows + shift)
    return visible


@triton.jit
def key_range(
    first_row,
    shift,
    k_length,
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
    begin = 0
    if IS_EDGE:
        begin = whole
    else:
        end = whole
    return begin, end


@triton.jit
def row_range(
    first_key,
    shift,
    q_length,
    IS_EDGE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The rows that see a block of keys: in tiles without a mask or, at the edge, in the others."""
    begin, end = 0, q_length
    if IS_CAUSAL:
        whole = tl.cdiv(tl.maximum(first_key + BLOCK_N - 1 - shift, 0), BLOCK_M) * BLOCK_M
        whole = tl.minimum(whole, q_length)
        if IS_EDGE:
            begin = tl.maximum(first_key - shift, 0) // BLOCK_M * BLOCK_M
            end = whole
        else:
            begin = whole
    return begin, end


@triton.jit
def load_rows(
    base_ptr,
    first,
    length,
    stride,
    IS_EDGE: tl.constexpr,
    ROWS: tl.constexpr,
    SIZE: tl.constexpr,
):
    """ROWS rows from `first` on, padded to a tile with zeros; at an edge also from `length` on."""
    rows, columns = tl.arange(0, ROWS), tl.arange(0, padded(SIZE))
    pointers = base_ptr + tl.cast(first, tl.int64) * stride
    # in 32 bits, because registers are scarce; the launch sees to it that the stride is small
    pointers += rows[:, None] * stride + columns[None, :]
    if IS_EDGE:
        is_inside = (rows < length - first)[:, None] & (columns < SIZE)[None, :]
        tile = tl.load(pointers, mask=is_inside, other=0.0)
    elif padded(SIZE) > SIZE:
        tile = tl.load(pointers, mask=(columns < SIZE)[None, :], other=0.0)
    else:
        tile = tl.load(pointers)
    return tile


@triton.jit
def store_rows(base_ptr, tile, first, length, stride, ROWS: tl.constexpr, SIZE: tl.constexpr):
    """Stores the part of a tile that lies below `length` and within SIZE columns."""
    rows, columns = tl.arange(0, ROWS), tl.arange(0, padded(SIZE))
    pointers = base_ptr + tl.cast(first, tl.int64) * stride
    pointers += rows[:, None] * stride + columns[None, :]
    is_inside = (rows < length - first)[:, None] & (columns < SIZE)[None, :]
    tl.store(pointers, tile.to(base_ptr.dtype.element_ty), mask=is_inside)


@triton.jit
def clear_rows(base_ptr, first, step, length, stride, ROWS: tl.constexpr, SIZE: tl.constexpr):
    """Stores zeros in the tiles of rows at first, first + step, ... below length."""
    zeros = tl.zeros([ROWS, padded(SIZE)], base_ptr.dtype.element_ty)
    for start in range(first, length, step):
        store_rows(base_ptr, zeros, start, length, stride, ROWS, SIZE)
