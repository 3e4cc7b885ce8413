"""rms_norm in Triton.

A program holds whole rows up to MAX_WIDTH; wider rows go through in column tiles, twice. The
backward keeps a fixed number of programs that stride over the rows and sum the gradient of weight
in fp32, so the result does not depend on the order in which programs run.
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

__all__ = ["rms_norm", "rms_norm_backward"]


@triton.jit
def rms_norm_fwd_kernel(
    x_ptr,  # [rows, hidden_size]
    residual_ptr,  # [rows, hidden_size] or None
    weight_ptr,  # [hidden_size] or None
    y_ptr,  # [rows, hidden_size]
    stream_ptr,  # [rows, hidden_size], None without a residual
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

    rstd = tl.rsqrt(tl.sum(s * s, axis=1) / hidden_size + eps)
    y = s * rstd[:, None] * factor[None, :]

    tl.store(y_ptr + offset, y, mask=mask)
    if stream_ptr is not None:
        tl.store(stream_ptr + offset, s, mask=mask)
    tl.store(rstd_ptr + row, rstd, mask=is_row)


@triton.jit
def rms_norm_fwd_wide_kernel(
    x_ptr,  # [rows, hidden_size]
    residual_ptr,  # [rows, hidden_size] or None
    weight_ptr,  # [hidden_size] or None
    y_ptr,  # [rows, hidden_size]
    stream_ptr,  # [rows, hidden_size], None without a residual
    rstd_ptr,  # [rows]
    hidden_size,
    eps,
    weight_offset,  # None for 0
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    start = row * hidden_size

    squares = tl.zeros([BLOCK_N], tl.float32)
    for begin in range(0, hidden_size, BLOCK_N):
        column = begin + tl.arange(0, BLOCK_N)
        s = load_sum(x_ptr, residual_ptr, start + column, column < hidden_size)
        squares += s * s
    rstd = tl.rsqrt(tl.sum(squares, axis=0) / hidden_size + eps)

    for begin in range(0, hidden_size, BLOCK_N):
        column = begin + tl.arange(0, BLOCK_N)
        mask = column < hidden_size
        s = load_sum(x_ptr, residual_ptr, start + column, mask)
        factor = load_factor(weight_ptr, column, mask, weight_offset)
        tl.store(y_ptr + start + column, s * rstd * factor, mask=mask)
        if stream_ptr is not None:
            tl.store(stream_ptr + start + column, s, mask=mask)

    tl.store(rstd_ptr + row, rstd)


@triton.jit
def load_normalized(grad_y_ptr, stream_ptr, factor, rstd, offset, mask):
    """Loads grad_y, and x^ = s * rstd, and returns them with grad_x^."""
    grad_y = tl.load(grad_y_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    s = tl.load(stream_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    return grad_y, s * rstd, grad_y * factor


@triton.jit
def rms_norm_bwd_kernel(
    grad_y_ptr,  # [rows, hidden_size]
    grad_stream_ptr,  # [rows, hidden_size] or None
    stream_ptr,  # [rows, hidden_size]
    weight_ptr,  # [hidden_size] or None
    rstd_ptr,  # [rows]
    grad_s_ptr,  # [rows, hidden_size]
    partial_ptr,  # [programs, hidden_size], None without a weight
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
    blocks = tl.cdiv(rows, BLOCK_M)
    for block in tl.range(program, blocks, tl.num_programs(0), num_stages=STAGES):
        row = block * BLOCK_M + tl.arange(0, BLOCK_M)
        is_row = row < rows
        mask = is_row[:, None] & is_column[None, :]
        offset = row[:, None].to(tl.int64) * hidden_size + column[None, :]
        rstd = tl.load(rstd_ptr + row, mask=is_row, other=0.0)[:, None]
        grad_y, x_hat, grad_x_hat = load_normalized(
            grad_y_ptr, stream_ptr, factor[None, :], rstd, offset, mask
        )
        projection = tl.sum(grad_x_hat * x_hat, axis=1)[:, None] / hidden_size
        grad_s = (grad_x_hat - x_hat * projection) * rstd
        store_grad(grad_s_ptr, grad_stream_ptr, grad_s, offset, mask)
        grad_weight += grad_y * x_hat

    if partial_ptr is not None:
        partial = partial_ptr + program.to(tl.int64) * hidden_size + column
        tl.store(partial, tl.sum(grad_weight, axis=0), mask=is_column)


@triton.jit
def rms_norm_bwd_wide_mean_kernel(
    grad_y_ptr,  # [rows, hidden_size]
    stream_ptr,  # [rows, hidden_size]
    weight_ptr,  # [hidden_size] or None
    rstd_ptr,  # [rows]
    projection_ptr,  # [rows], mean of grad_x^ * x^
    hidden_size,
    weight_offset,  # None for 0
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    rstd = tl.load(rstd_ptr + row)

    projection = tl.zeros([BLOCK_N], tl.float32)
    for begin in range(0, hidden_size, BLOCK_N):
        column = begin + tl.arange(0, BLOCK_N)
        mask = column < hidden_size
        factor = load_factor(weight_ptr, column, mask, weight_offset)
        _, x_hat, grad_x_hat = load_normalized(
            grad_y_ptr, stream_ptr, factor, rstd, row * hidden_size + column, mask
        )
        projection += grad_x_hat * x_hat

    tl.store(projection_ptr + row, tl.sum(projection, axis=0) / hidden_size)


@triton.jit
def rms_norm_bwd_wide_kernel(
    grad_y_ptr,  # [rows, hidden_size]
    grad_stream_ptr,  # [rows, hidden_size] or None
    stream_ptr,  # [rows, hidden_size]
    weight_ptr,  # [hidden_size] or None
    rstd_ptr,  # [rows]
    projection_ptr,  # [rows], mean of grad_x^ * x^
    grad_s_ptr,  # [rows, hidden_size]
    partial_ptr,  # [programs, hidden_size], None without a weight
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
    for row in tl.range(program, rows, tl.num_programs(0), num_stages=STAGES):
        offset = tl.cast(row, tl.int64) * hidden_size + column
        rstd = tl.load(rstd_ptr + row)
        grad_y, x_hat, grad_x_hat = load_normalized(
            grad_y_ptr, stream_ptr, factor, rstd, offset, mask
        )
        grad_s = (grad_x_hat - x_hat * tl.load(projection_ptr + row)) * rstd
        store_grad(grad_s_ptr, grad_stream_ptr, grad_s, offset, mask)
        grad_weight += grad_y * x_hat

    if partial_ptr is not None:
        partial = partial_ptr + program.to(tl.int64) * hidden_size + column
        tl.store(partial, grad_weight, mask=mask)


def rms_norm(
    x: Tensor, weight: Tensor | None, residual: Tensor | None, eps: float, weight_offset: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Launches the forward; returns y, the stream (empty without residual), rstd [rows]."""
    hidden_size = x.shape[-1]
    rows = x.numel() // hidden_size
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    rstd = torch.empty(rows, dtype=torch.float32, device=x.device)
    stream = None
    if residual is not None:
        stream = torch.empty_like(residual, memory_format=torch.contiguous_format)
        residual = residual.contiguous()
    arguments = {
        "x_ptr": x.contiguous(),
        "residual_ptr": residual,
        "weight_ptr": None if weight is None else weight.contiguous(),
        "y_ptr": y,
        "stream_ptr": stream,
        "rstd_ptr": rstd,
        "hidden_size": hidden_size,
        "eps": eps,
        "weight_offset": weight_offset or None,
    }
    with torch.cuda.device_of(x):
        if hidden_size > MAX_WIDTH:
            rms_norm_fwd_wide_kernel[(rows,)](
                **arguments, BLOCK_N=COLUMN_TILE.columns, num_warps=COLUMN_TILE.warps
            )
        else:
            tile = row_tile(hidden_size)
            rms_norm_fwd_kernel[(triton.cdiv(rows, tile.rows),)](
                **arguments,
                rows=rows,
                BLOCK_M=tile.rows,
                BLOCK_N=tile.columns,
                num_warps=tile.warps,
            )
    return y, x.new_empty(0) if stream is None else stream, rstd


def rms_norm_backward(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    rstd: Tensor,
    weight_offset: float,
) -> tuple[Tensor, Tensor]:
    """Launches the backward; returns the gradients of the stream and of weight ([0] if None)."""
    rows, hidden_size = rstd.numel(), stream.shape[-1]
    grad_s = torch.empty_like(stream, memory_format=torch.contiguous_format)
    is_wide = hidden_size > MAX_WIDTH
    tile = COLUMN_TILE if is_wide else row_tile(hidden_size)
    programs = num_programs(rows, hidden_size, tile, stream.device)
    partial = None
    if weight is not None:
        partial = torch.empty(programs, hidden_size, dtype=torch.float32, device=stream.device)
    arguments = {
        "grad_y_ptr": grad_y.contiguous(),
        "stream_ptr": stream.contiguous(),
        "weight_ptr": None if weight is None else weight.contiguous(),
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
            projection = torch.empty_like(rstd)
            rms_norm_bwd_wide_mean_kernel[(rows,)](**arguments, projection_ptr=projection)
            grid = (programs, triton.cdiv(hidden_size, tile.columns))
            rms_norm_bwd_wide_kernel[grid](**arguments, **outputs, projection_ptr=projection)
        else:
            rms_norm_bwd_kernel[(programs,)](**arguments, **outputs, BLOCK_M=tile.rows)
    if weight is None or partial is None:
        return grad_s, rstd.new_empty(0)
    return grad_s, partial.sum(dim=0).to(weight.dtype)
