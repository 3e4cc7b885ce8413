"""Rows of the compile gate for write_kv."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.write_kv import gpu

SIZES = [(64, 64), (80, 32), (128, 128), (256, 256)]
CACHE_DTYPES = [None, torch.int8, torch.float8_e4m3fn]
SAMPLED = [(128, 128, torch.bfloat16, None), (128, 128, torch.bfloat16, torch.int8)]


def case(head_dim: int, rotated: int, dtype: torch.dtype, cache_dtype: torch.dtype | None) -> Case:
    def compile_both(arch: int) -> list[Any]:
        q, k = torch.zeros(64, 32, head_dim, dtype=dtype), torch.zeros(64, 8, head_dim, dtype=dtype)
        cache = torch.zeros(9, 16, 8, head_dim).to(dtype if cache_dtype is None else cache_dtype)
        scale = None if cache_dtype is None else torch.zeros(9, 16, 8)
        angles, positions = torch.zeros(99, rotated // 2), torch.zeros(64, dtype=torch.int64)
        caches = (cache, cache, scale, scale, positions)

        def launch() -> None:
            gpu.rotary_write_kv(q, k, k, *caches, angles, angles, positions, True)
            gpu.rotary_write_kv(q, k, k, *caches, angles, angles, positions, False)

        return compile_launches(arch, launch)

    return Case(
        f"write_kv-{head_dim}-{rotated}-{dtype}-{cache_dtype}",
        compile_both,
        is_streaming=True,
        is_slow=(head_dim, rotated, dtype, cache_dtype) not in SAMPLED,
    )


CASES = [
    case(*size, dtype, cache_dtype)
    for size in SIZES
    for dtype in (torch.float32, torch.bfloat16)
    for cache_dtype in CACHE_DTYPES
]
