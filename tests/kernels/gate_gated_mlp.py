"""Rows of the compile gate for the elementwise part of an MLP."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.gated_mlp import gpu

SAMPLED = [("gelu", 3072, torch.bfloat16, True)]
WIDTHS = [64, 768, 3072, 11008]
ACTIVATIONS = ["gelu", "gelu_tanh", "silu", "relu", "relu_squared"]


def case(activation: str, width: int, dtype: torch.dtype, is_full: bool) -> Case:
    def compile_all(arch: int) -> list[Any]:
        x, y = torch.zeros(64, 2 * width, dtype=dtype), torch.zeros(64, width, dtype=dtype)
        bias = torch.zeros(2 * width, dtype=dtype) if is_full else None
        half = torch.zeros(width, dtype=dtype) if is_full else None
        seed = torch.zeros(1, dtype=torch.int64) if is_full else None

        def launch() -> None:
            gpu.activate(y, half, seed, activation, 0.1)
            gpu.activate_gated(x, bias, seed, activation, 0.1)
            gpu.activate_backward(y, y, half, seed, activation, 0.1)
            gpu.activate_gated_backward(y, x, bias, seed, activation, 0.1)

        return compile_launches(arch, launch)

    return Case(
        f"gated_mlp-{activation}-{width}-{dtype}-{'bias-dropout' if is_full else 'plain'}",
        compile_all,
        is_streaming=True,
        max_registers=96,  # five programs of 4 warps on a multiprocessor
        is_slow=(activation, width, dtype, is_full) not in SAMPLED,
    )


CASES = [
    case(activation, width, dtype, is_full)
    for activation in ACTIVATIONS
    for width in WIDTHS
    for dtype in (torch.float32, torch.bfloat16)
    for is_full in (False, True)
]
