"""Rows of the compile gate for attention."""

from typing import Any

import torch

from tests.kernels.compiler import Case, compile_for, compile_launches
from weldlm_kernels.attention import gpu
from weldlm_kernels.attention.gpu_backward_delta import attention_bwd_delta_kernel
from weldlm_kernels.attention.gpu_sizes import DELTA_ROWS
from weldlm_kernels.attention.options import Options

HEAD_DIMS = [16, 40, 64, 80, 96, 128, 192, 256]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]

DROPOUT = {"dropout_p": 0.1, "dropout_seed": torch.zeros(1, dtype=torch.int64)}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {},  # two key/value heads for eight of queries
    "window": {"window": 48},
    "dropout": DROPOUT,
    "gemma": {"window": 48, "softcap": 50.0},
    "t5": {"relative_bias": torch.zeros(32, 8)} | DROPOUT,
    "alibi": {"alibi_slopes": torch.zeros(8)} | DROPOUT,
}
SAMPLED = [("plain", 64, True), ("grouped", 128, True), ("gemma", 128, True), ("t5", 64, False)]


def case(name: str, head_dim: int, dtype: torch.dtype, is_causal: bool) -> Case:
    def compile_looping(arch: int) -> list[Any]:
        q, lse = torch.zeros(64, 8, head_dim, dtype=dtype), torch.zeros(8, 64)
        kv = q[:, : 2 if name == "grouped" else 8].contiguous()
        offsets = torch.zeros(3, dtype=torch.int32)
        plain = Options(is_causal, None, 0.1, None, 128, not is_causal, None, None, 0.0, None)
        settings = (offsets, offsets, 64, 64, plain._replace(**OPTIONS[name]))

        def launch() -> None:
            gpu.attention(q, kv, kv, *settings)
            gpu.attention_backward(q, kv, kv, q, q, lse, *settings)

        forward, _, backward_kv, backward_q = compile_launches(arch, launch)
        return [forward, backward_kv, backward_q]

    is_sampled = dtype == torch.bfloat16 and (name, head_dim, is_causal) in SAMPLED
    return Case(
        f"attention-{name}-{head_dim}-{dtype}-{'causal' if is_causal else 'full'}",
        compile_looping,
        # fp32 is multiplied in fp32, which tensor cores cannot
        has_dot=dtype != torch.float32,
        is_streaming=True,
        is_slow=not is_sampled,
    )


def compile_delta(arch: int) -> list[Any]:
    x, delta = torch.zeros(64, 8, 128, dtype=torch.bfloat16), torch.zeros(8, 64)
    sizes = {"num_tokens": 64, "num_heads": 8, "VALUE_DIM": 128, "BLOCK_M": DELTA_ROWS}
    return [compile_for(arch, attention_bwd_delta_kernel, x, x, delta, 1024, 128, **sizes)]


PLAIN = [
    case("plain", head_dim, dtype, is_causal)
    for head_dim in HEAD_DIMS
    for dtype in DTYPES
    for is_causal in (True, False)
]
# what the options add depends on tiles alone, and these have one for each width
MODIFIED = [
    case(name, head_dim, dtype, is_causal)
    for name in OPTIONS
    if name != "plain"
    for head_dim in (64, 128, 256)
    for dtype in (torch.bfloat16, torch.float32)
    for is_causal in (True, False)
    # these spill some registers (gpu_sizes.py)
    if not (name == "t5" and dtype == torch.float32 and head_dim > 64)
]
CASES = [Case("attention-delta", compile_delta, is_streaming=True), *PLAIN, *MODIFIED]
