"""Rows of the compile gate for rotary."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.rotary import gpu

SAMPLED = [(80, 32, torch.bfloat16)]
SIZES = [(64, 64), (80, 32), (80, 80), (96, 48), (128, 128), (256, 256)]


def case(head_dim: int, rotated: int, dtype: torch.dtype) -> Case:
    def compile_all(arch: int) -> list[Any]:
        x = torch.zeros(64, 12, head_dim, dtype=dtype)
        angles, positions = torch.zeros(99, rotated // 2), torch.zeros(64, dtype=torch.int64)

        def launch() -> None:
            gpu.rotary(x, angles, angles, positions, True)
            gpu.rotary(x, angles, angles, positions, False)
            gpu.rotary_in_place(x, angles, angles, positions, False)

        return compile_launches(arch, launch)

    return Case(
        f"rotary-{head_dim}-{rotated}-{dtype}",
        compile_all,
        is_streaming=True,
        is_slow=(head_dim, rotated, dtype) not in SAMPLED,
    )


CASES = [case(*size, dtype) for size in SIZES for dtype in (torch.float32, torch.bfloat16)]
