"""Rows of the compile gate for linear_cross_entropy."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.linear_cross_entropy import gpu

SAMPLED = [(50257, torch.bfloat16), (1000, torch.float32)]
VOCAB_SIZES = [1000, 4096, 50257, 262144]


def case(vocab_size: int, dtype: torch.dtype) -> Case:
    def compile_launch(arch: int) -> list[Any]:
        hidden, weight = torch.zeros(2, 16, dtype=dtype), torch.zeros(vocab_size, 16, dtype=dtype)
        targets = torch.zeros(2, dtype=torch.int64)

        def launch() -> None:
            gpu.linear_cross_entropy(hidden, weight, None, targets, -100, [True, False, False])
            gpu.linear_cross_entropy(hidden, weight, None, targets, -100, [False, False, False])

        return compile_launches(arch, launch)

    return Case(
        f"linear_cross_entropy-{vocab_size}-{dtype}",
        compile_launch,
        is_streaming=True,
        max_registers=128,  # two programs on a multiprocessor (gpu.py)
        is_slow=(vocab_size, dtype) not in SAMPLED,
    )


CASES = [case(size, dtype) for size in VOCAB_SIZES for dtype in (torch.float32, torch.bfloat16)]
