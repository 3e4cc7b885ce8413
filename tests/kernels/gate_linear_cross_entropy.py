"""Rows of the compile gate for linear_cross_entropy."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.linear_cross_entropy import gpu
from weldlm_kernels.linear_cross_entropy.options import LossOptions

SAMPLED = [
    (50257, torch.bfloat16, False),
    (1000, torch.float32, False),
    (262144, torch.bfloat16, True),
]
VOCAB_SIZES = [1000, 4096, 50257, 262144]


def case(vocab_size: int, dtype: torch.dtype, *, has_options: bool = False) -> Case:
    def compile_launch(arch: int) -> list[Any]:
        hidden, weight = torch.zeros(2, 16, dtype=dtype), torch.zeros(vocab_size, 16, dtype=dtype)
        targets = torch.zeros(2, dtype=torch.int64)
        options, row_weights = LossOptions(), None
        if has_options:
            options = LossOptions(
                label_smoothing=0.1, z_loss=1e-4, softcap=30.0, counts_correct=True
            )
            row_weights = torch.ones(2)

        def launch() -> None:
            for needs_grad in ([True, False, False], [False, False, False]):
                gpu.linear_cross_entropy(
                    hidden, weight, None, targets, row_weights, options, needs_grad
                )

        return compile_launches(arch, launch)

    return Case(
        f"linear_cross_entropy-{vocab_size}-{dtype}{'-options' if has_options else ''}",
        compile_launch,
        is_streaming=True,
        max_registers=128,  # two programs on a multiprocessor (gpu.py)
        is_slow=(vocab_size, dtype, has_options) not in SAMPLED,
    )


CASES = [
    case(size, dtype, has_options=has_options)
    for size in VOCAB_SIZES
    for dtype in (torch.float32, torch.bfloat16)
    for has_options in (False, True)
]
