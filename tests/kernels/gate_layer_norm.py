"""Rows of the compile gate for layer_norm."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.layer_norm import gpu

SAMPLED = [(8192, torch.float32), (65536, torch.bfloat16)]
WIDTHS = [64, 256, 512, 768, 1024, 2048, 4096, 8192, 16384, 65536]


def case(hidden_size: int, stream_dtype: torch.dtype, weight_offset: float = 0.0) -> Case:
    def compile_both(arch: int) -> list[Any]:
        x = torch.zeros(64, hidden_size, dtype=torch.bfloat16)
        stream = torch.zeros(64, hidden_size, dtype=stream_dtype)
        weight, statistics = torch.ones(hidden_size), torch.ones(64)

        def launch() -> None:
            gpu.layer_norm(x, weight, weight, stream, 1e-5, weight_offset)
            gpu.layer_norm_backward(
                x, stream, stream, weight, statistics, statistics, weight_offset
            )

        return compile_launches(arch, launch)

    return Case(
        f"layer_norm-{hidden_size}-{stream_dtype}{'-offset' if weight_offset else ''}",
        compile_both,
        is_streaming=True,
        max_registers=128,  # 16 warps on a multiprocessor (row_tiles.py)
        is_slow=(hidden_size, stream_dtype) not in SAMPLED or weight_offset != 0.0,
    )


CASES = [case(width, dtype) for width in WIDTHS for dtype in (torch.float32, torch.bfloat16)]
CASES += [case(width, torch.bfloat16, 1.0) for width in (2048, 8192, 65536)]
