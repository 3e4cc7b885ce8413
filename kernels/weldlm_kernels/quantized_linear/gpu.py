"""quantized_linear in Triton.

A program computes a tile of y^T = W x^T, so that the integers of W, turned into the dtype of x in
registers, are the first operand of the matrix instruction, which takes it from registers. Few rows
of x are bound by reading W: there K is split among programs, and a second kernel sums their parts
in a fixed order.
"""

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from weldlm_kernels.row_tiles import num_multiprocessors

__all__ = ["quantized_linear"]


@triton.jit
def load_rows(x_ptr, row, is_row, K, k, is_k):
    """x^T of some rows and columns: [BLOCK_K, BLOCK_M], 0 where masked."""
    x = tl.load(
        x_ptr + row[:, None] * K + k[None, :], mask=is_row[:, None] & is_k[None, :], other=0.0
    )
    return tl.trans(x)


@triton.jit
def to_dtype(integers, dtype: tl.constexpr):
    """Small integers in a floating-point dtype, exact."""
    return integers.to(tl.float32).to(dtype)


@triton.jit
def store_tile(acc, y_ptr, bias_ptr, channel, row, split, rows, N, SPLITS: tl.constexpr):
    """Stores acc [BLOCK_N, BLOCK_M] (+ bias) as y, or as the part of y of one split."""
    is_channel = channel < N
    mask = (row < rows)[:, None] & is_channel[None, :]
    if SPLITS == 1:
        if bias_ptr is not None:
            bias = tl.load(bias_ptr + channel, mask=is_channel, other=0.0).to(tl.float32)
            acc += bias[:, None]
    else:
        y_ptr += split.to(tl.int64) * rows * N
    tl.store(y_ptr + row[:, None] * N + channel[None, :], tl.trans(acc), mask=mask)


@triton.jit
def quantized_linear_int8_kernel(
    x_ptr,  # [rows, K]
    values_ptr,  # [N, K] int8
    scales_ptr,  # [N]
    bias_ptr,  # [N] or None
    y_ptr,  # [rows, N], or fp32 [SPLITS, rows, N]
    rows,
    N,
    K,
    SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    channel = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    split = tl.program_id(2)
    is_channel, is_row = channel < N, row < rows
    scales = tl.load(scales_ptr + channel, mask=is_channel, other=0.0)
    values_row = values_ptr + channel.to(tl.int64)[:, None] * K

    acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for block in tl.range(split, tl.cdiv(K, BLOCK_K), SPLITS, num_stages=STAGES):
        k = block * BLOCK_K + tl.arange(0, BLOCK_K)
        is_k = k < K
        mask = is_channel[:, None] & is_k[None, :]
        w = tl.load(values_row + k[None, :], mask=mask, other=0)
        x = load_rows(x_ptr, row, is_row, K, k, is_k)
        acc = tl.dot(to_dtype(w, x.dtype), x, acc, input_precision="ieee")

    acc *= scales[:, None]
    store_tile(acc, y_ptr, bias_ptr, channel, row, split, rows, N, SPLITS)


@triton.jit
def quantized_linear_int4_kernel(
    x_ptr,  # [rows, K]
    values_ptr,  # [N, K / 2] uint8
    scales_ptr,  # [N, K / GROUP]
    minimums_ptr,  # [N, K / GROUP] or None
    bias_ptr,  # [N] or None
    y_ptr,  # [rows, N], or fp32 [SPLITS, rows, N]
    rows,
    N,
    K,
    stride_values_channel,  # K / 2, whose factors of two the compiler sees only as an argument
    SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    GROUP: tl.constexpr,
    DEPTH: tl.constexpr,
    STAGES: tl.constexpr,
):
    HALF: tl.constexpr = GROUP // 2
    PIECES: tl.constexpr = HALF // DEPTH
    channel = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    split = tl.program_id(2)
    is_channel, is_row = channel < N, row < rows
    groups = K // GROUP
    byte = tl.arange(0, DEPTH)
    is_byte = byte < DEPTH
    values_row = values_ptr + channel.to(tl.int64)[:, None] * stride_values_channel
    group_row = channel.to(tl.int64) * groups

    acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for step in tl.range(split, groups * PIECES, SPLITS, num_stages=STAGES):
        group, start = step // PIECES, (step % PIECES) * DEPTH
        w = tl.load(
            values_row + step * DEPTH + byte[None, :], mask=is_channel[:, None], other=0
        ).to(tl.int8, bitcast=True)
        scales = tl.load(scales_ptr + group_row + group, mask=is_channel, other=0.0)
        k = group * GROUP + start + byte
        low_x = load_rows(x_ptr, row, is_row, K, k, is_byte)
        high_x = load_rows(x_ptr, row, is_row, K, k + HALF, is_byte)
        low, high = w & 15, (w >> 4) & 15
        if minimums_ptr is None:
            low, high = low - 8, high - 8
        else:
            minimums = tl.load(minimums_ptr + group_row + group, mask=is_channel, other=0.0)
            sums = tl.sum(low_x.to(tl.float32) + high_x.to(tl.float32), axis=0)
            acc += minimums[:, None] * sums[None, :]
        part = tl.dot(to_dtype(low, low_x.dtype), low_x, input_precision="ieee")
        part = tl.dot(to_dtype(high, high_x.dtype), high_x, part, input_precision="ieee")
        acc += part * scales[:, None]

    store_tile(acc, y_ptr, bias_ptr, channel, row, split, rows, N, SPLITS)


@triton.jit
def sum_splits_kernel(
    partial_ptr,  # [SPLITS, rows, N] fp32
    bias_ptr,  # [N] or None
    y_ptr,  # [rows, N]
    rows,
    N,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < N

    y = tl.zeros([BLOCK], tl.float32)
    for split in tl.static_range(SPLITS):
        y += tl.load(partial_ptr + (split * rows + row) * N + channel, mask=mask, other=0.0)
    if bias_ptr is not None:
        y += tl.load(bias_ptr + channel, mask=mask, other=0.0).to(tl.float32)

    tl.store(y_ptr + row * N + channel, y, mask=mask)


@dataclass(frozen=True, slots=True)
class Tile:
    """What one program computes in one step."""

    rows: int
    channels: int
    depth: int  # most weights of a channel
    warps: int
    stages: int


# most rows of x -> tile for 16-bit x, tile for fp32, whose products are not made by tensor cores.
# Chosen by what compiles without a spill (tests/kernels/gate_quantized_linear.py); not yet timed on
# a GPU.
_TILES: dict[int | None, tuple[Tile, Tile]] = {
    16: (
        Tile(rows=16, channels=64, depth=128, warps=4, stages=4),
        Tile(rows=16, channels=64, depth=64, warps=4, stages=3),
    ),
    64: (
        Tile(rows=64, channels=64, depth=64, warps=4, stages=3),
        Tile(rows=64, channels=64, depth=32, warps=4, stages=2),
    ),
    None: (
        Tile(rows=128, channels=128, depth=64, warps=8, stages=3),
        Tile(rows=64, channels=64, depth=32, warps=4, stages=2),
    ),
}
# programs of few rows that a multiprocessor should have, so that enough of W is on its way
_PROGRAMS_PER_MULTIPROCESSOR = 2
_MOST_SPLITS = 8
_SUM_BLOCK = 512


def _tile(rows: int, dtype: torch.dtype, group_size: int) -> Tile:
    most = next(most for most in _TILES if most is None or rows <= most)
    tile = _TILES[most][dtype == torch.float32]
    if group_size == 0:
        return tile
    # a step takes no weights of two groups; with fewer of them few rows need more channels to load
    # 128 bits at a time
    if group_size >= tile.depth:
        return tile
    return replace(tile, depth=32, channels=128 if tile.rows == 16 else tile.channels)


def num_splits(rows: int, channels: int, steps: int, tile: Tile, multiprocessors: int) -> int:
    """Among how many programs the `steps` along K are split, a power of two."""
    programs = triton.cdiv(rows, tile.rows) * triton.cdiv(channels, tile.channels)
    splits = 1
    while (
        splits < _MOST_SPLITS
        and 2 * splits <= steps
        and programs * splits < _PROGRAMS_PER_MULTIPROCESSOR * multiprocessors
    ):
        splits *= 2
    return splits


def quantized_linear(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    bias: Tensor | None,
    group_size: int,
) -> Tensor:
    """Launches the product, and the sum of its parts where K is split."""
    depth, channels = x.shape[-1], values.shape[0]
    rows = x.numel() // depth
    y = x.new_empty(*x.shape[:-1], channels)
    if rows == 0:
        return y
    bias = None if bias is None else bias.contiguous()
    tile = _tile(rows, x.dtype, group_size)
    steps = triton.cdiv(depth, tile.depth)
    splits = num_splits(rows, channels, steps, tile, num_multiprocessors(x.device))
    out = y if splits == 1 else x.new_empty(splits, rows, channels, dtype=torch.float32)
    grid = (triton.cdiv(channels, tile.channels), triton.cdiv(rows, tile.rows), splits)
    arguments = {
        "x_ptr": x.contiguous(),
        "values_ptr": values.contiguous(),
        "scales_ptr": scales.contiguous(),
        "bias_ptr": bias,
        "y_ptr": out,
        "rows": rows,
        "N": channels,
        "K": depth,
        "SPLITS": splits,
        "BLOCK_M": tile.rows,
        "BLOCK_N": tile.channels,
        "STAGES": tile.stages,
        "num_warps": tile.warps,
    }
    with torch.cuda.device_of(x):
        if group_size == 0:
            quantized_linear_int8_kernel[grid](**arguments, BLOCK_K=tile.depth)
        else:
            minimums = None if minimums is None else minimums.contiguous()
            quantized_linear_int4_kernel[grid](
                **arguments,
                minimums_ptr=minimums,
                stride_values_channel=depth // 2,
                GROUP=group_size,
                DEPTH=tile.depth // 2,
            )
        if splits > 1:
            sum_splits_kernel[(triton.cdiv(channels, _SUM_BLOCK), rows)](
                partial_ptr=out,
                bias_ptr=bias,
                y_ptr=y,
                rows=rows,
                N=channels,
                SPLITS=splits,
                BLOCK=_SUM_BLOCK,
            )
    return y
