"""Rows of the compile gate for attention."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_for, compile_launches
from weldlm_kernels.attention import gpu
from weldlm_kernels.attention.gpu_backward import attention_bwd_delta_kernel
from weldlm_kernels.attention.gpu_sizes import DELTA_ROWS

HEAD_DIMS = [16, 40, 64, 80, 96, 128, 192, 256]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
SAMPLED = [(64, torch.bfloat16, True), (128, torch.bfloat16, True)]


def case(head_dim: int, dtype: torch.dtype, is_causal: bool) -> Case:
    def compile_looping(arch: int) -> list[Any]:
        q, lse = torch.zeros(64, 8, head_dim, dtype=dtype), torch.zeros(8, 64)
        offsets = torch.zeros(3, dtype=torch.int32)
        settings = (offsets, offsets, 64, 64, is_causal, None, 0.1)

        def launch() -> None:
            gpu.attention(q, q, q, *settings)
            gpu.attention_backward(q, q, q, q, q, lse, *settings)

        forward, _, backward_kv, backward_q = compile_launches(arch, launch)
        return [forward, backward_kv, backward_q]

    return Case(
        f"attention-{head_dim}-{dtype}-{'causal' if is_causal else 'full'}",
        compile_looping,
        # fp32 is multiplied in fp32, which tensor cores cannot
        has_dot=dtype != torch.float32,
        is_streaming=True,
        is_slow=(head_dim, dtype, is_causal) not in SAMPLED,
    )


def compile_delta(arch: int) -> list[Any]:
    x, delta = torch.zeros(64, 8, 128, dtype=torch.bfloat16), torch.zeros(8, 64)
    sizes = {"num_tokens": 64, "num_heads": 8, "VALUE_DIM": 128, "BLOCK_M": DELTA_ROWS}
    return [compile_for(arch, attention_bwd_delta_kernel, x, x, delta, 1024, 128, **sizes)]


CASES = [Case("attention-delta", compile_delta, is_streaming=True)] + [
    case(head_dim, dtype, is_causal)
    for head_dim in HEAD_DIMS
    for dtype in DTYPES
    for is_causal in (True, False)
]
