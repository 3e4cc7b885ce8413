"""How Triton kernels that work on whole rows split a [rows, hidden_size] matrix into programs."""

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl

__all__ = [
    "COLUMN_TILE",
    "MAX_WIDTH",
    "RowTile",
    "load_factor",
    "load_sum",
    "num_multiprocessors",
    "num_programs",
    "row_tile",
    "store_grad",
]


@dataclass(frozen=True, slots=True)
class RowTile:
    """What one program holds in registers at a time."""

    rows: int
    columns: int  # a power of two
    warps: int
    stages: int  # tiles in flight in a loop over rows


# widest row -> rows, warps, stages: 8 elements a thread, so that the backward kernels take at most
# 128 registers and 16 warps are resident (tests/kernels/gate_layer_norm.py). With 16 elements a
# second stage would spill. Not yet timed on a GPU.
_ROW_TILES = {
    128: (8, 4, 2),
    256: (4, 4, 2),
    512: (2, 4, 2),
    1024: (1, 4, 2),
    2048: (1, 8, 2),
    4096: (1, 16, 2),
    8192: (1, 16, 1),
}
MAX_WIDTH = max(_ROW_TILES)
# the tile of rows wider than that, which are taken piece by piece
COLUMN_TILE = RowTile(rows=1, columns=1024, warps=4, stages=2)
_WARPS_PER_MULTIPROCESSOR = 16


@cache
def row_tile(hidden_size: int) -> RowTile:
    """Returns the tile for rows of `hidden_size` <= MAX_WIDTH elements."""
    rows, warps, stages = next(tile for width, tile in _ROW_TILES.items() if hidden_size <= width)
    columns = max(16, triton.next_power_of_2(hidden_size))
    return RowTile(rows=rows, columns=columns, warps=warps, stages=stages)


def num_programs(rows: int, hidden_size: int, tile: RowTile, device: torch.device) -> int:
    """Returns how many programs share the rows of a column of tiles, each striding over several."""
    resident = num_multiprocessors(device) * _WARPS_PER_MULTIPROCESSOR // tile.warps
    of_column = max(1, resident // triton.cdiv(hidden_size, tile.columns))
    return min(triton.cdiv(rows, tile.rows), of_column)


@cache
def num_multiprocessors(device: torch.device) -> int:
    """Returns how many multiprocessors `device` has, 1 where it is no GPU."""
    if device.type != "cuda":
        return 1  # the interpreter runs programs one after the other
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@triton.jit
def load_sum(x_ptr, residual_ptr, offset, mask):
    """Loads x (+ residual, rounded to its dtype) as fp32, 0 where masked."""
    s = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        s += tl.load(residual_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        s = s.to(residual_ptr.dtype.element_ty).to(tl.float32)
    return s


@triton.jit
def load_factor(weight_ptr, column, mask, weight_offset):
    """Loads weight (+ weight_offset) as fp32, 1 without a weight."""
    if weight_ptr is None:
        factor = tl.full(column.shape, 1.0, tl.float32)
    else:
        factor = tl.load(weight_ptr + column, mask=mask, other=0.0).to(tl.float32)
        if weight_offset is not None:
            factor += weight_offset
    return factor


@triton.jit
def store_grad(grad_s_ptr, grad_stream_ptr, grad_s, offset, mask):
    """Stores grad_s (+ grad_stream, the gradient that reaches the stream directly)."""
    if grad_stream_ptr is not None:
        grad_s += tl.load(grad_stream_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(grad_s_ptr + offset, grad_s, mask=mask)
