"""layer_norm in Triton.

A program holds whole rows up to MAX_WIDTH; wider rows go through in column tiles, twice. The
backward keeps a fixed number of programs that stride over the rows and sum the gradients of weight
and bias in fp32, so the result does not depend on the order in which programs run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from weldlm_kernels.row_tiles import (
    COLUMN_TILE,
    MAX_WIDTH,
    load_factor,
    load_sum,
    num_programs,
    row_tile,
    store_grad,
)

__all__ = ["layer_norm", "layer_norm_backward"]


@triton.jit
def layer_norm_fwd_kernel(
    x_ptr,  # [rows, hidden_size]
    residual_ptr,  # [rows, hidden_size] or None
    weight_ptr,  # [hidden_size] or None
    bias_ptr,  # [hidden_size] or None
    y_ptr,  # [rows, hidden_size]
    stream_ptr,  # [rows, hidden_size], None without a residual
    mean_ptr,  # [rows]
    rstd_ptr,  # [rows]
    rows,
    hidden_size,
    eps,
    weight_offset,  # None for 0
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_N)
    is_row, is_column = row < rows, column < hidden_size
    mask = is_row[:, None] & is_column[None, :]
    offset = row[:, None] * hidden_size + column[None, :]

    s = load_sum(x_ptr, residual_ptr, offset, mask)
    factor = load_factor(weight_ptr, column, is_column, weight_offset)

    mean = tl.sum(s, axis=1) / hidden_size
    centered = tl.where(mask, s - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centered * centered, axis=1) / hidden_size + eps)
    y = centered * rstd[:, None] * factor[None, :]
    if bias_ptr is not None:
        y += tl.load(bias_ptr + column, mask=is_column, other=0.0).to(tl.float32)[None, :]

    tl.store(y_ptr + offset, y, mask=mask)
    if stream_ptr is not None:
        tl.store(stream_ptr + offset, s, mask=mask)
    tl.store(mean_ptr + row, mean, mask=is_row)
    tl.store(rstd_ptr + row, rstd, mask=is_row)


@triton.jit
def layer_norm_fwd_wide_kernel(
    x_ptr,  # [rows, hidden_size]
    residual_ptr,  # [rows, hidden_size] or None
    weight_ptr,  # [hidden_size] or None
    bias_ptr,  # [hidden_size] or None
    y_ptr,  # [rows, hidden_size]
    stream_ptr,  # [rows, hidden_size], None without a residual
    mean_ptr,  # [rows]
    rstd_ptr,  # [rows]
    hidden_size,
    eps,
    weight_offset,  # None for 0
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    start = row * hidden_size

    # both moments in one pass, around the mean of the first tile so that no digits cancel
    column = tl.arange(0, BLOCK_N)
    s = load_sum(x_ptr, residual_ptr, start + column, column < hidden_size)
    shift = tl.sum(s, axis=0) / tl.minimum(hidden_size, BLOCK_N)
    total = tl.zeros([BLOCK_N], tl.float32)
    squares = tl.zeros([BLOCK_N], tl.float32)
    for begin in range(0, hidden_size, BLOCK_N):
        column = begin + tl.arange(0, BLOCK_N)
        mask = column < hidden_size
        s = load_sum(x_ptr, residual_ptr, start + column, mask)
        shifted = tl.where(mask, s - shift, 0.0)
        total += shifted
        squares += shifted * shifted
    distance = tl.sum(total, axis=0) / hidden_size
    mean = shift + distance
    rstd = tl.rsqrt(tl.sum(squares, axis=0) / hidden_size - distance * distance + eps)

    for begin in range(0, hidden_size, BLOCK_N):
        column = begin + tl.arange(0, BLOCK_N)
        mask = column < hidden_size
        s = load_sum(x_ptr, residual_ptr, start + column, mask)
        factor = load_factor(weight_ptr, column, mask, weight_offset)
        y = (s - mean) * rstd * factor
        if bias_ptr is not None:
            y += tl.load(bias_ptr + column, mask=mask, other=0.0).to(tl.float32)
        tl.store(y_ptr + start + column, y, mask=mask)
        if stream_ptr is not None:
            tl.store(stream_ptr + start + column, s, mask=mask)

    tl.store(mean_ptr + row, mean)
    tl.store(rstd_ptr + row, rstd)


@triton.jit
def load_normalized(grad_y_ptr, stream_ptr, factor, mean, rstd, offset, mask):
    """Loads grad_y, and x^ = (s - mean) * rstd, and returns them with grad_x^."""
    grad_y = tl.load(grad_y_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    s = tl.load(stream_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    return grad_y, (s - mean) * rstd, grad_y * factor


@triton.jit
def layer_norm_bwd_kernel(
    grad_y_ptr,  # [rows, hidden_size]
    grad_stream_ptr,  # [rows, hidden_size] or None
    stream_ptr,  # [rows, hidden_size]
    weight_ptr,  # [hidden_size] or None
    mean_ptr,  # [rows]
    rstd_ptr,  # [rows]
    grad_s_ptr,  # [rows, hidden_size]
    partial_ptr,  # [2, programs, hidden_size], sums for weight and bias
    rows,
    hidden_size,
    weight_offset,  # None for 0
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK_N)
    is_column = column < hidden_size

    factor = load_factor(weight_ptr, column, is_column, weight_offset)
    grad_weight = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    grad_bias = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    blocks = tl.cdiv(rows, BLOCK_M)
    for block in tl.range(program, blocks, tl.num_programs(0), num_stages=STAGES):
        row = block * BLOCK_M + tl.arange(0, BLOCK_M)
        is_row = row < rows
        mask = is_row[:, None] & is_column[None, :]
        offset = row[:, None].to(tl.int64) * hidden_size + column[None, :]
        mean = tl.load(mean_ptr + row, mask=is_row, other=0.0)[:, None]
        rstd = tl.load(rstd_ptr + row, mask=is_row, other=0.0)[:, None]
        grad_y, x_hat, grad_x_hat = load_normalized(
            grad_y_ptr, stream_ptr, factor[None, :], mean, rstd, offset, mask
        )
        projection = tl.sum(grad_x_hat * x_hat, axis=1)[:, None] / hidden_size
        average = tl.sum(grad_x_hat, axis=1)[:, None] / hidden_size
        grad_s = (grad_x_hat - x_hat * projection - average) * rstd
        store_grad(grad_s_ptr, grad_stream_ptr, grad_s, offset, mask)
        grad_weight += grad_y * x_hat
        grad_bias += grad_y

    partial = partial_ptr + program.to(tl.int64) * hidden_size + column
    tl.store(partial, tl.sum(grad_weight, axis=0), mask=is_column)
    partial += tl.num_programs(0).to(tl.int64) * hidden_size
    tl.store(partial, tl.sum(grad_bias, axis=0), mask=is_column)


@triton.jit
def layer_norm_bwd_wide_means_kernel(
    grad_y_ptr,  # [rows, hidden_size]
    stream_ptr,  # [rows, hidden_size]
    weight_ptr,  # [hidden_size] or None
    mean_ptr,  # [rows]
    rstd_ptr,  # [rows]
    means_ptr,  # [rows, 2], mean of grad_x^ * x^ and of grad_x^
    hidden_size,
    weight_offset,  # None for 0
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    mean = tl.load(mean_ptr + row)
    rstd = tl.load(rstd_ptr + row)

    projection = tl.zeros([BLOCK_N], tl.float32)
    average = tl.zeros([BLOCK_N], tl.float32)
    for begin in range(0, hidden_size, BLOCK_N):
        column = begin + tl.arange(0, BLOCK_N)
        mask = column < hidden_size
        factor = load_factor(weight_ptr, column, mask, weight_offset)
        _, x_hat, grad_x_hat = load_normalized(
            grad_y_ptr, stream_ptr, factor, mean, rstd, row * hidden_size + column, mask
        )
        projection += grad_x_hat * x_hat
        average += grad_x_hat

    tl.store(means_ptr + row * 2, tl.sum(projection, axis=0) / hidden_size)
    tl.store(means_ptr + row * 2 + 1, tl.sum(average, axis=0) / hidden_size)


@triton.jit
def layer_norm_bwd_wide_kernel(
    grad_y_ptr,  # [rows, hidden_size]
    grad_stream_ptr,  # [rows, hidden_size] or None
    stream_ptr,  # [rows, hidden_size]
    weight_ptr,  # [hidden_size] or None
    mean_ptr,  # [rows]
    rstd_ptr,  # [rows]
    means_ptr,  # [rows, 2], mean of grad_x^ * x^ and of grad_x^
    grad_s_ptr,  # [rows, hidden_size]
    partial_ptr,  # [2, programs, hidden_size], sums for weight and bias
    rows,
    hidden_size,
    weight_offset,  # None for 0
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    program = tl.program_id(0)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = column < hidden_size

    factor = load_factor(weight_ptr, column, mask, weight_offset)
    grad_weight = tl.zeros([BLOCK_N], tl.float32)
    grad_bias = tl.zeros([BLOCK_N], tl.float32)
    for row in tl.range(program, rows, tl.num_programs(0), num_stages=STAGES):
        offset = tl.cast(row, tl.int64) * hidden_size + column
        rstd = tl.load(rstd_ptr + row)
        grad_y, x_hat, grad_x_hat = load_normalized(
            grad_y_ptr, stream_ptr, factor, tl.load(mean_ptr + row), rstd, offset, mask
        )
        projection = tl.load(means_ptr + row * 2)
        average = tl.load(means_ptr + row * 2 + 1)
        grad_s = (grad_x_hat - x_hat * projection - average) * rstd
        store_grad(grad_s_ptr, grad_stream_ptr, grad_s, offset, mask)
        grad_weight += grad_y * x_hat
        grad_bias += grad_y

    partial = partial_ptr + program.to(tl.int64) * hidden_size + column
    tl.store(partial, grad_weight, mask=mask)
    tl.store(partial + tl.num_programs(0).to(tl.int64) * hidden_size, grad_bias, mask=mask)


def layer_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    weight_offset: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Launches the forward; returns y, the stream (empty without residual), mean, rstd [rows]."""
    hidden_size = x.shape[-1]
    rows = x.numel() // hidden_size
    mean = torch.empty(rows, dtype=torch.float32, device=x.device)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    stream = None
    if residual is not None:
        stream = torch.empty_like(residual, memory_format=torch.contiguous_format)
        residual = residual.contiguous()
    arguments = {
        "x_ptr": x.contiguous(),
        "residual_ptr": residual,
        "weight_ptr": None if weight is None else weight.contiguous(),
        "bias_ptr": None if bias is None else bias.contiguous(),
        "y_ptr": y,
        "stream_ptr": stream,
        "mean_ptr": mean,
        "rstd_ptr": (rstd := torch.empty_like(mean)),
        "hidden_size": hidden_size,
        "eps": eps,
        "weight_offset": weight_offset or None,
    }
    with torch.cuda.device_of(x):
        if hidden_size > MAX_WIDTH:
            layer_norm_fwd_wide_kernel[(rows,)](
                **arguments, BLOCK_N=COLUMN_TILE.columns, num_warps=COLUMN_TILE.warps
            )
        else:
            tile = row_tile(hidden_size)
            layer_norm_fwd_kernel[(triton.cdiv(rows, tile.rows),)](
                **arguments,
                rows=rows,
                BLOCK_M=tile.rows,
                BLOCK_N=tile.columns,
                num_warps=tile.warps,
            )
    return y, x.new_empty(0) if stream is None else stream, mean, rstd


def layer_norm_backward(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    weight_offset: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launches the backward; returns the gradients of the stream, of weight and of bias."""
    rows, hidden_size = mean.numel(), stream.shape[-1]
    grad_s = torch.empty_like(stream, memory_format=torch.contiguous_format)
    is_wide = hidden_size > MAX_WIDTH
    tile = COLUMN_TILE if is_wide else row_tile(hidden_size)
    programs = num_programs(rows, hidden_size, tile, stream.device)
    partial = torch.empty(2, programs, hidden_size, dtype=torch.float32, device=stream.device)
    arguments = {
        "grad_y_ptr": grad_y.contiguous(),
        "stream_ptr": stream.contiguous(),
        "weight_ptr": None if weight is None else weight.contiguous(),
        "mean_ptr": mean,
        "rstd_ptr": rstd,
        "hidden_size": hidden_size,
        "weight_offset": weight_offset or None,
        "BLOCK_N": tile.columns,
        "num_warps": tile.warps,
    }
    outputs = {
        "grad_stream_ptr": None if grad_stream is None else grad_stream.contiguous(),
        "grad_s_ptr": grad_s,
        "partial_ptr": partial,
        "rows": rows,
        "STAGES": tile.stages,
    }
    with torch.cuda.device_of(stream):
        if is_wide:
            means = torch.empty(rows, 2, dtype=torch.float32, device=stream.device)
            layer_norm_bwd_wide_means_kernel[(rows,)](**arguments, means_ptr=means)
            grid = (programs, triton.cdiv(hidden_size, tile.columns))
            layer_norm_bwd_wide_kernel[grid](**arguments, **outputs, means_ptr=means)
        else:
            layer_norm_bwd_kernel[(programs,)](**arguments, **outputs, BLOCK_M=tile.rows)
    # two sums, since the outputs of an operation must not share memory
    dtype = torch.float32 if weight is None else weight.dtype
    grad_weight, grad_bias = (sums.sum(dim=0).to(dtype) for sums in partial)
    return grad_s, grad_weight, grad_bias
