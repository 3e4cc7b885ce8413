"""Block sizes of the attention kernels, by GPU architecture, dtype and head size."""

from dataclasses import dataclass

import torch
import triton
from triton.runtime import driver

__all__ = ["Blocks", "Sizes", "choose_sizes"]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The tile of one kernel: block_m rows by block_n keys."""

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


_SIZES = {
    ("sm_80", 2, 64): Sizes(Blocks(128, 64, 4, 3), Blocks(64, 128, 8, 2), Blocks(128, 64, 8, 2)),
    ("sm_80", 2, 128): Sizes(Blocks(128, 64, 8, 3), Blocks(64, 64, 4, 2), Blocks(128, 64, 8, 2)),
}


def choose_sizes(dtype: torch.dtype, head_size: int) -> Sizes:
    return _SIZES["sm_80", 2, 64]
