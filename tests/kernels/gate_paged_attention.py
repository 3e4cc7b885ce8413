"""Rows of the compile gate for paged_attention.

In fp8 it is compiled only where the GPU converts; the interpreter tests shift bits, as on sm_80.
"""

from functools import partial
from typing import Any

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.paged_attention import gpu

HEAD_DIMS = [16, 64, 80, 128, 192, 256]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
# the window and others go with a quantized cache, where registers are the scarcest
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "relative": {"relative_bias": torch.zeros(32, 8)},
    "int8": {"cache_dtype": torch.int8, "split_length": 128},
    "fp8": {
        "cache_dtype": torch.float8_e4m3fn,
        "window": 99,
        "softcap": 30.0,
        "alibi_slopes": torch.zeros(8),
    },
}
SAMPLED = [
    (128, torch.bfloat16, "plain", 1),
    (128, torch.bfloat16, "int8", 64),
    (64, torch.bfloat16, "fp8", 64),
]


def launch(head_dim: int, dtype: torch.dtype, q_max_length: int, **options: Any) -> None:
    cache_dtype = options.get("cache_dtype", dtype)
    cache = torch.zeros(16, 16, 2, head_dim).to(cache_dtype)
    scale = None if cache_dtype == dtype else torch.zeros(16, 16, 2)
    lengths, q_offsets = torch.zeros(3, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
    arguments: list[Any] = [torch.zeros(64, 8, head_dim, dtype=dtype), cache, cache]
    arguments += [torch.zeros(3, 99, dtype=torch.int32), lengths, q_offsets]
    rest: list[Any] = [q_max_length, True, options.get("window"), 0.1]
    rest += [options.get(name) for name in ("softcap", "alibi_slopes", "relative_bias")]
    rest += [128, False, scale, scale, options.get("split_length")]
    gpu.paged_attention(*arguments, *rest)


def case(head_dim: int, dtype: torch.dtype, name: str, q_max_length: int) -> Case:
    def compile_attention(arch: int) -> list[Any]:
        start = partial(launch, head_dim, dtype, q_max_length, **OPTIONS[name])
        return compile_launches(arch, start)[:1]  # the merge of splits has no dot

    return Case(
        f"paged_attention-{name}-{head_dim}-{dtype}-{q_max_length}",
        compile_attention,
        # fp32 is multiplied in fp32, which tensor cores cannot
        has_dot=dtype != torch.float32,
        # a tile of narrower rows has less than 128 bits for each thread
        is_streaming=head_dim >= 64,
        is_slow=(head_dim, dtype, name, q_max_length) not in SAMPLED,
    )


def compile_merge(arch: int) -> list[Any]:
    return compile_launches(arch, partial(launch, 128, torch.bfloat16, 1, split_length=128))[1:]


CASES = [Case("paged_attention-merge", compile_merge, is_streaming=True)] + [
    case(head_dim, dtype, name, q_max_length)
    for head_dim in HEAD_DIMS
    for dtype in DTYPES
    for name in OPTIONS
    for q_max_length in (1, 64)
]
