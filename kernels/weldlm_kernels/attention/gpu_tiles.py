"""What the Triton kernels of attention are composed of: places in the batch, and tiles of rows."""

import triton
import triton.language as tl

__all__ = [
    "begin_at",
    "clear_rows",
    "load_rows",
    "locate",
    "padded",
    "span",
    "steps",
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
def steps(stride_t, stride_h, UNIT: tl.constexpr):
    """The elements from token to token and from head to head, of strides in that unit."""
    return stride_t * UNIT, stride_h * UNIT


@triton.jit
def begin_at(base_ptr, token, head, stride_t, stride_h, UNIT: tl.constexpr):
    """Where the rows of a head begin, and the elements from one to the next."""
    step_t, step_h = steps(stride_t, stride_h, UNIT)
    return base_ptr + token * step_t + head * step_h, step_t


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
