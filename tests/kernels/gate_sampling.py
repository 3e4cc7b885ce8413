"""Rows of the compile gate for sampling."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.sampling import gpu

SAMPLED = [(32000, torch.bfloat16)]
VOCAB_SIZES = [32000, 50257, 131072]


def case(vocab_size: int, dtype: torch.dtype) -> Case:
    def compile_all(arch: int) -> list[Any]:
        logits, values = torch.zeros(2, vocab_size, dtype=dtype), torch.ones(2)
        numbers, offsets = torch.ones(2, dtype=torch.int64), torch.tensor([0, 1, 2])
        draw = (values, numbers, numbers)

        def launch() -> None:
            gpu.sample(logits, None, *draw, numbers, values, values)
            gpu.sample(logits, logits.float(), *draw, None, None, None)
            gpu.penalize(logits, numbers, offsets, values, values, values)

        kernels = compile_launches(arch, launch)
        # what decides a draw is rounded operation by operation
        fused = [kernel for kernel in kernels if "fma.rn.f32" in kernel.asm["ptx"]]
        assert not fused, "multiplications and additions are fused"
        return kernels

    return Case(
        f"sampling-{vocab_size}-{dtype}",
        compile_all,
        is_streaming=vocab_size % 8 == 0,  # else rows begin at odd addresses
        max_registers=128,  # two programs of 8 warps on a multiprocessor
        is_slow=(vocab_size, dtype) not in SAMPLED,
    )


CASES = [case(size, dtype) for size in VOCAB_SIZES for dtype in (torch.float32, torch.bfloat16)]
