"""Rows of the compile gate for quantized_linear."""

from typing import Any
from unittest import mock

import torch

from tests.kernels.compiler import Case, compile_launches
from weldlm_kernels.quantized_linear import gpu, quantize_weight

# (rows, bits, group size, dtype)
SAMPLED = [(1, 8, 0, torch.bfloat16), (1, 4, 128, torch.bfloat16), (512, 4, 32, torch.bfloat16)]
MULTIPROCESSORS = 132


def case(rows: int, bits: int, group_size: int, dtype: torch.dtype) -> Case:
    def compile_product(arch: int) -> list[Any]:
        x, bias = torch.zeros(rows, 1024, dtype=dtype), torch.zeros(256, dtype=dtype)
        weight = quantize_weight(
            torch.zeros(256, 1024), bits=bits, group_size=group_size, has_minimums=group_size == 128
        )
        parts = (weight.values, weight.scales, weight.minimums, bias, weight.group_size)
        with mock.patch.object(gpu, "num_multiprocessors", return_value=MULTIPROCESSORS):
            compiled = compile_launches(arch, lambda: gpu.quantized_linear(x, *parts))
        return compiled[:1]  # the sum of the splits has no dot

    return Case(
        f"quantized_linear-{rows}-int{bits}-{group_size}-{dtype}",
        compile_product,
        # fp32 is multiplied in fp32, which tensor cores cannot
        has_dot=dtype != torch.float32,
        is_streaming=True,
        is_slow=(rows, bits, group_size, dtype) not in SAMPLED,
    )


def compile_sum(arch: int) -> list[Any]:
    x, values = torch.zeros(1, 1024), torch.zeros(256, 1024, dtype=torch.int8)
    with mock.patch.object(gpu, "num_multiprocessors", return_value=MULTIPROCESSORS):
        scales = torch.ones(256)
        product = compile_launches(
            arch, lambda: gpu.quantized_linear(x, values, scales, None, scales, 0)
        )
    return product[1:]


CASES = [Case("quantized_linear-sum", compile_sum, is_streaming=True)] + [
    case(rows, bits, group_size, dtype)
    for rows in (1, 64, 512)
    for bits, group_size in ((8, 0), (4, 32), (4, 64), (4, 128))
    for dtype in (torch.bfloat16, torch.float16, torch.float32)
]
