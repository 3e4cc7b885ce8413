"""Rows of the compile gate for linear_kl_divergence."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.linear_kl_divergence import gpu

SAMPLED = [(50257, torch.float32), (262144, torch.bfloat16)]
VOCAB_SIZES = [1000, 50257, 262144]


def case(vocab_size: int, dtype: torch.dtype) -> Case:
    def compile_launch(arch: int) -> list[Any]:
        hidden, weight = torch.zeros(2, 16, dtype=dtype), torch.zeros(vocab_size, 16, dtype=dtype)
        mask = torch.ones(2, dtype=torch.bool)

        def launch() -> None:
            for needs_grad in ([True, False], [False, False]):
                gpu.linear_kl_divergence(
                    hidden, weight, hidden, weight, mask, None, 2.0, needs_grad
                )

        return compile_launches(arch, launch)

    return Case(
        f"linear_kl_divergence-{vocab_size}-{dtype}",
        compile_launch,
        is_streaming=True,
        max_registers=128,  # two programs on a multiprocessor (gpu.py)
        is_slow=(vocab_size, dtype) not in SAMPLED,
    )


CASES = [case(size, dtype) for size in VOCAB_SIZES for dtype in (torch.float32, torch.bfloat16)]
