"""Block sizes of the attention kernels, by GPU architecture, element size and head size."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import triton
from triton.runtime import driver

__all__ = ["DELTA_ROWS", "MAX_HEAD_DIM", "Blocks", "Load", "Sizes", "choose_sizes"]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The tile of a kernel: block_m rows by block_n keys."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """The tiles of the three kernels that loop."""

    forward: Blocks
    backward_kv: Blocks
    backward_q: Blocks


# sm_80 stands for all GPUs with less than 200 KiB of shared memory a program (100 KiB on sm_86,
# sm_89 and sm_120), sm_90 for those with more (sm_90, sm_100)
_Architecture = Literal["sm_80", "sm_90"]
Load = Literal["plain", "modified", "sloped", "biased"]

# The largest tiles for which no register spills and shared memory suffices, on sm_80 or sm_90,
# forward and backward (tests/kernels/gate_attention.py). Not yet timed on a GPU.
# architecture, bytes an element, largest head size -> tiles
_SIZES: dict[tuple[_Architecture, int, int], Sizes] = {
    ("sm_80", 2, 64): Sizes(Blocks(128, 64, 4, 3), Blocks(64, 128, 8, 2), Blocks(128, 64, 8, 2)),
    ("sm_80", 2, 128): Sizes(Blocks(128, 64, 8, 3), Blocks(64, 64, 8, 2), Blocks(128, 32, 8, 2)),
    ("sm_80", 2, 256): Sizes(Blocks(64, 32, 8, 2), Blocks(32, 32, 8, 2), Blocks(64, 32, 8, 1)),
    # the narrowest heads of fp32 fill the lanes of 4 warps, not of 8, with 128 bits each
    ("sm_80", 4, 16): Sizes(Blocks(64, 32, 8, 2), Blocks(32, 32, 4, 2), Blocks(64, 32, 8, 2)),
    ("sm_80", 4, 64): Sizes(Blocks(64, 32, 8, 2), Blocks(32, 32, 8, 2), Blocks(64, 32, 8, 2)),
    ("sm_80", 4, 128): Sizes(Blocks(32, 32, 8, 1), Blocks(32, 32, 8, 2), Blocks(64, 16, 8, 2)),
    ("sm_80", 4, 256): Sizes(Blocks(32, 16, 8, 1), Blocks(16, 16, 8, 2), Blocks(32, 16, 8, 2)),
    ("sm_90", 2, 64): Sizes(Blocks(128, 128, 8, 2), Blocks(64, 128, 8, 2), Blocks(128, 128, 8, 2)),
    ("sm_90", 2, 128): Sizes(Blocks(128, 64, 8, 3), Blocks(32, 128, 8, 2), Blocks(128, 64, 8, 2)),
    ("sm_90", 2, 256): Sizes(Blocks(128, 32, 8, 2), Blocks(32, 32, 8, 2), Blocks(64, 32, 8, 2)),
    ("sm_90", 4, 16): Sizes(Blocks(64, 32, 8, 2), Blocks(32, 32, 4, 2), Blocks(64, 32, 8, 2)),
    ("sm_90", 4, 64): Sizes(Blocks(64, 32, 8, 2), Blocks(32, 32, 8, 2), Blocks(64, 32, 8, 2)),
    ("sm_90", 4, 128): Sizes(Blocks(32, 16, 8, 2), Blocks(16, 32, 8, 2), Blocks(32, 16, 8, 2)),
    ("sm_90", 4, 256): Sizes(Blocks(32, 16, 8, 1), Blocks(16, 16, 8, 2), Blocks(32, 16, 8, 2)),
}
# The same for calls with options, which take registers, on all architectures. ALiBi takes more, and
# relative biases the most: beyond 64 columns of fp32 they spill some.
_MODIFIED_SIZES: dict[tuple[int, int], Sizes] = {
    (2, 64): Sizes(Blocks(128, 64, 8, 2), Blocks(32, 64, 4, 2), Blocks(64, 64, 8, 2)),
    (2, 128): Sizes(Blocks(64, 64, 8, 2), Blocks(32, 64, 8, 2), Blocks(64, 64, 8, 2)),
    (2, 256): Sizes(Blocks(64, 32, 8, 1), Blocks(32, 32, 8, 2), Blocks(32, 32, 8, 1)),
    (4, 64): Sizes(Blocks(64, 32, 8, 2), Blocks(32, 32, 8, 2), Blocks(64, 32, 8, 2)),
    (4, 128): Sizes(Blocks(32, 32, 8, 1), Blocks(16, 16, 8, 2), Blocks(32, 32, 8, 2)),
    (4, 256): Sizes(Blocks(16, 16, 8, 1), Blocks(16, 16, 8, 2), Blocks(16, 16, 8, 2)),
}
_SLOPED_SIZES: dict[tuple[int, int], Sizes] = {
    (2, 64): Sizes(Blocks(128, 64, 8, 2), Blocks(32, 64, 4, 2), Blocks(64, 64, 8, 2)),
    (2, 128): Sizes(Blocks(64, 64, 8, 2), Blocks(32, 64, 8, 2), Blocks(64, 32, 8, 2)),
    (2, 256): Sizes(Blocks(64, 32, 8, 1), Blocks(32, 32, 8, 2), Blocks(32, 16, 8, 2)),
    (4, 64): Sizes(Blocks(64, 32, 8, 2), Blocks(32, 16, 8, 2), Blocks(64, 32, 8, 2)),
    (4, 128): Sizes(Blocks(32, 32, 8, 1), Blocks(32, 16, 8, 1), Blocks(32, 32, 8, 2)),
    (4, 256): Sizes(Blocks(16, 16, 4, 1), Blocks(16, 16, 8, 1), Blocks(16, 16, 8, 3)),
}
_BIASED_SIZES: dict[tuple[int, int], Sizes] = {
    (2, 64): Sizes(Blocks(128, 64, 8, 2), Blocks(32, 64, 4, 2), Blocks(64, 64, 8, 2)),
    (2, 128): Sizes(Blocks(64, 64, 8, 2), Blocks(32, 32, 8, 2), Blocks(64, 32, 8, 2)),
    (2, 256): Sizes(Blocks(64, 32, 8, 1), Blocks(32, 32, 8, 2), Blocks(32, 32, 8, 1)),
    (4, 64): Sizes(Blocks(32, 16, 8, 2), Blocks(16, 16, 8, 2), Blocks(32, 32, 8, 2)),
    (4, 128): Sizes(Blocks(16, 16, 8, 1), Blocks(16, 16, 8, 1), Blocks(16, 16, 8, 1)),
    (4, 256): Sizes(Blocks(16, 16, 8, 1), Blocks(16, 16, 8, 1), Blocks(16, 16, 8, 1)),
}
_OPTION_SIZES = {"modified": _MODIFIED_SIZES, "sloped": _SLOPED_SIZES, "biased": _BIASED_SIZES}
MAX_HEAD_DIM = 256
# rows of a program of the kernel that only streams
DELTA_ROWS = 32


def choose_sizes(dtype: torch.dtype, head_size: int, load: Load) -> Sizes:
    """Returns the tiles for heads of up to `head_size` on the current GPU.

    Args:
        dtype: of queries, keys and values.
        head_size: the larger one of head_dim and value_dim.
        load: which options the call has: none, some, ALiBi or a relative bias among them.
    """
    if load != "plain":
        width = next(width for width in (64, 128, MAX_HEAD_DIM) if head_size <= width)
        return _OPTION_SIZES[load][dtype.itemsize, width]
    # the interpreter has no GPU
    architecture = "sm_90" if triton.knobs.runtime.interpret else _architecture(_device())
    fitting = [
        width
        for known, itemsize, width in _SIZES
        if (known, itemsize) == (architecture, dtype.itemsize) and head_size <= width
    ]
    return _SIZES[architecture, dtype.itemsize, min(fitting)]


def _device() -> object:
    return driver.active.get_current_device()


@cache
def _architecture(device: object) -> _Architecture:
    return "sm_90" if driver.active.get_current_target().arch in (90, 100, 103) else "sm_80"
