"""quantized_linear on a GPU, few rows and many, against the same layer in bfloat16."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from torch.nn import functional

from benchmarks.gpu.case import Check, Cost, Pass, Timing, Work
from weldlm_kernels import quantize_weight, quantized_linear

__all__ = ["checks", "timings"]

BYTES = 2  # of a bfloat16
GROUP_SIZE = 64
Bits = Literal[4, 8]
BITS: tuple[Bits, ...] = (8, 4)
CHECKED_ROWS = (1, 7, 16, 130)
OUT, IN = 4_096, 4_096
TIMED_ROWS = (1, 16, 512)


def checks() -> Iterator[Check]:
    for bits in BITS:
        for rows in CHECKED_ROWS:
            make = partial(_make, bits, rows, 200, 320)
            yield Check(f"quantized_linear int{bits}, {rows} rows", make)


def timings() -> Iterator[Timing]:
    for bits in BITS:
        for rows in TIMED_ROWS:

            def make(
                dtype: torch.dtype,
                device: torch.device,
                is_tiny: bool,
                bits: Bits = bits,
                rows: int = rows,
            ) -> Work:
                sizes = (2, 32, 64) if is_tiny else (rows, OUT, IN)
                return _make(bits, *sizes, dtype, device)

            cost = Cost(2 * rows * OUT * IN, OUT * IN * bits / 8 + rows * (OUT + IN) * BYTES)
            name = f"quantized_linear int{bits}, {rows} x {OUT} x {IN}"
            yield Timing(name, make, (Pass("forward", cost),))


def _make(
    bits: Bits,
    rows: int,
    out_features: int,
    in_features: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Work:
    generator = torch.Generator(device).manual_seed(0)
    dense = torch.randn(out_features, in_features, generator=generator, device=device)
    weight = quantize_weight(dense, bits=bits, group_size=GROUP_SIZE)
    unquantized = dense.to(dtype)
    x = torch.randn(rows, in_features, generator=generator, device=device).to(dtype)
    return Work(
        {"x": x},
        lambda x: quantized_linear(x, weight),
        companions={"unquantized": lambda x: functional.linear(x, unquantized)},
    )
