"""Tiles of the paged_attention kernels, by GPU architecture, element size and head size."""

from functools import cache
from typing import Literal

import torch
import triton
from triton.runtime import driver

from weldlm_kernels.attention.gpu_sizes import Blocks

__all__ = [
    "FEW_ROWS",
    "MAX_HEAD_DIM",
    "MERGE_WARPS",
    "Burden",
    "Rows",
    "choose_blocks",
    "choose_num_splits",
    "has_fp8",
]

MAX_HEAD_DIM = 256

_Architecture = Literal["sm_80", "sm_90"]  # as for attention
Rows = Literal["few", "many"]  # at most 16 rows a sequence, as in decoding, or more
Burden = Literal["relative_bias", "quantized"]  # what takes registers beside the tiles

# The largest tiles for which no register spills and shared memory suffices
# (tests/kernels/gate_paged_attention.py). Not yet timed on a GPU.
# architecture, bytes an element of q, largest head size, rows of a sequence -> tile
_BLOCKS: dict[tuple[_Architecture, int, int, Rows], Blocks] = {
    ("sm_80", 2, 64, "few"): Blocks(16, 64, 4, 3),
    ("sm_80", 2, 128, "few"): Blocks(16, 64, 4, 3),
    ("sm_80", 2, 256, "few"): Blocks(16, 16, 8, 2),
    ("sm_80", 4, 64, "few"): Blocks(16, 32, 4, 2),
    ("sm_80", 4, 128, "few"): Blocks(16, 16, 8, 2),
    ("sm_80", 4, 256, "few"): Blocks(16, 16, 4, 2),
    ("sm_80", 2, 64, "many"): Blocks(64, 32, 8, 2),
    ("sm_80", 2, 128, "many"): Blocks(64, 32, 8, 3),
    ("sm_80", 2, 256, "many"): Blocks(32, 16, 8, 2),
    ("sm_80", 4, 64, "many"): Blocks(32, 32, 8, 2),
    ("sm_80", 4, 128, "many"): Blocks(32, 32, 8, 1),
    ("sm_80", 4, 256, "many"): Blocks(16, 16, 4, 2),
    ("sm_90", 2, 64, "few"): Blocks(16, 64, 4, 3),
    ("sm_90", 2, 128, "few"): Blocks(16, 64, 4, 3),
    ("sm_90", 2, 256, "few"): Blocks(16, 16, 8, 2),
    ("sm_90", 4, 64, "few"): Blocks(16, 32, 4, 2),
    ("sm_90", 4, 128, "few"): Blocks(16, 16, 8, 2),
    ("sm_90", 4, 256, "few"): Blocks(16, 16, 4, 2),
    ("sm_90", 2, 64, "many"): Blocks(64, 64, 8, 3),
    ("sm_90", 2, 128, "many"): Blocks(64, 64, 8, 2),
    ("sm_90", 2, 256, "many"): Blocks(32, 16, 8, 2),
    ("sm_90", 4, 64, "many"): Blocks(32, 32, 8, 2),
    ("sm_90", 4, 128, "many"): Blocks(32, 32, 8, 1),
    ("sm_90", 4, 256, "many"): Blocks(16, 16, 4, 2),
}
# the tiles of calls with a relative bias or a quantized cache where those above would spill
_BURDENED_BLOCKS: dict[tuple[_Architecture, int, int, Rows, Burden], Blocks] = {
    ("sm_80", 2, 256, "many", "relative_bias"): Blocks(16, 16, 8, 2),
    ("sm_80", 4, 256, "few", "quantized"): Blocks(16, 16, 8, 1),
    ("sm_80", 4, 256, "many", "quantized"): Blocks(16, 16, 8, 1),
    ("sm_90", 2, 64, "many", "quantized"): Blocks(64, 32, 8, 2),
    ("sm_90", 2, 128, "many", "relative_bias"): Blocks(64, 32, 8, 2),
    ("sm_90", 2, 256, "many", "relative_bias"): Blocks(16, 16, 8, 2),
    ("sm_90", 4, 256, "few", "quantized"): Blocks(16, 16, 8, 1),
    ("sm_90", 4, 256, "many", "quantized"): Blocks(16, 16, 8, 1),
}
FEW_ROWS = 16
# a program of the merge holds 8 splits of a head
MERGE_WARPS = 1

# programs that are to be resident on a multiprocessor, and the fewest keys worth a program
_PROGRAMS = 2
_FEWEST_KEYS = 256
_MOST_SPLITS = 64
_INTERPRETED_MULTIPROCESSORS = 4  # the interpreter has no GPU


def choose_blocks(dtype: torch.dtype, head_dim: int, rows: Rows, burden: Burden | None) -> Blocks:
    """Returns the tile for sequences of few or many rows on the current GPU."""
    width = next(width for width in (64, 128, MAX_HEAD_DIM) if head_dim <= width)
    key = _architecture(), dtype.itemsize, width, rows
    if burden is not None and (*key, burden) in _BURDENED_BLOCKS:
        return _BURDENED_BLOCKS[*key, burden]
    return _BLOCKS[key]


def choose_num_splits(device: torch.device, num_programs: int, num_keys: int) -> int:
    """Returns how many programs share the keys of a block of rows, at most `num_keys`."""
    wanted = _PROGRAMS * _num_multiprocessors(device) // max(1, num_programs)
    return max(1, min(wanted, -(-num_keys // _FEWEST_KEYS), _MOST_SPLITS))


def has_fp8() -> bool:
    """Whether the current GPU converts from e4m3; the interpreter does not convert faithfully."""
    return not triton.knobs.runtime.interpret and _capability(_device()) >= 89


def _architecture() -> _Architecture:
    # the interpreter has no GPU
    if triton.knobs.runtime.interpret or _capability(_device()) in (90, 100, 103):
        return "sm_90"
    return "sm_80"


def _device() -> object:
    return driver.active.get_current_device()


@cache
def _capability(device: object) -> int:
    return int(driver.active.get_current_target().arch)


@cache
def _num_multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return _INTERPRETED_MULTIPROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count
