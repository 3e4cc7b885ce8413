"""Linear layers of few rows on a CPU with packed weights, against torch and fbgemm.

Each call takes the next of several weights that together do not fit in a cache, as the layers of a
model do. The peer of int8 scales activations per tensor and ours per row, so that the two are each
checked against the plain product and not against one another.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.compare import Comparison
from weldlm_kernels import (
    PackedQuantizedWeight,
    linear,
    pack_quantized_weight,
    pack_weight,
    quantize_weight,
    quantized_linear,
)

__all__ = ["comparisons"]

SHAPES = [(3072, 768), (768, 3072)]  # output and input channels
ROWS = [1, 4, 16, 64]
BYTES_OF_WEIGHTS = 100_000_000  # beyond any cache
GROUP_SIZE = 32

Call = Callable[[Tensor], Tensor]


def comparisons() -> Iterator[Comparison]:
    for make in (fp32_sides, int8_sides, int4_sides):
        for out_features, in_features in SHAPES:
            weight = torch.randn(out_features, in_features)
            peer, ours, theirs, tolerance = make(weight)
            for rows in ROWS:
                x = torch.randn(rows, in_features)
                exact = functional.linear(x, weight)
                for side in (ours[0], theirs[0]):
                    error = (side(x).float() - exact).norm() / exact.norm()
                    assert error < tolerance, f"{make.__name__}: error {error:.3g}"
                yield Comparison(
                    f"{make.__name__.removesuffix('_sides')} linear of {rows} rows, "
                    f"{out_features} x {in_features}",
                    peer,
                    partial(call_next, cycle(ours), x),
                    partial(call_next, cycle(theirs), x),
                )


def call_next(calls: Iterator[Call], x: Tensor) -> Tensor:
    with torch.inference_mode():
        return next(calls)(x)


def fp32_sides(weight: Tensor) -> tuple[str, list[Call], list[Call], float]:
    weights = [weight.clone() for _ in range(num_copies(weight.nbytes))]
    ours: list[Call] = [partial(apply_packed, pack_weight(copy)) for copy in weights]
    theirs: list[Call] = [partial(functional.linear, weight=copy) for copy in weights]
    return "torch", ours, theirs, 1e-5


def apply_packed(weight: object, x: Tensor) -> Tensor:
    return linear(x, weight)  # type: ignore[arg-type]


def int8_sides(weight: Tensor) -> tuple[str, list[Call], list[Call], float]:
    torch.backends.quantized.engine = "fbgemm"
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    theirs: list[Call] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.ao.quantization is deprecated
        for _ in range(num_copies(weight.numel())):
            model = torch.ao.quantization.quantize_dynamic(
                nn.Sequential(layer), {nn.Linear}, dtype=torch.qint8
            )
            theirs.append(model[0])
    return "fbgemm dynamic int8, a scale per tensor", our_copies(weight, 8), theirs, 0.05


def int4_sides(weight: Tensor) -> tuple[str, list[Call], list[Call], float]:
    groups = weight.unflatten(1, (-1, GROUP_SIZE))
    lowest, highest = groups.amin(dim=2), groups.amax(dim=2)
    scales = ((highest - lowest) / 15).bfloat16().float()
    middle = (lowest + 8 * scales).bfloat16().float()
    integers = ((groups - (middle - 8 * scales)[..., None]) / scales[..., None]).round()
    scales_and_zeros = torch.stack([scales, middle], dim=2).transpose(0, 1).contiguous()
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
        integers.clamp(0, 15).flatten(1).int(), 1
    )
    theirs: list[Call] = [
        partial(apply_int4pack, packed.clone(), scales_and_zeros.bfloat16())
        for _ in range(num_copies(packed.nbytes))
    ]
    return "torch _weight_int4pack_mm, bf16", our_copies(weight, 4), theirs, 0.15


def apply_int4pack(packed: Tensor, scales_and_zeros: Tensor, x: Tensor) -> Tensor:
    return torch.ops.aten._weight_int4pack_mm_for_cpu(  # type: ignore[no-any-return]
        x.bfloat16(), packed, GROUP_SIZE, scales_and_zeros
    )


def our_copies(weight: Tensor, bits: int) -> list[Call]:
    packed = pack_quantized_weight(
        quantize_weight(weight, bits=bits, group_size=GROUP_SIZE, has_minimums=bits == 4)
    )
    return [
        partial(apply_quantized, replace(packed, values=packed.values.clone()))
        for _ in range(num_copies(packed.values.nbytes))
    ]


def apply_quantized(weight: PackedQuantizedWeight, x: Tensor) -> Tensor:
    return quantized_linear(x, weight)


def num_copies(num_bytes: int) -> int:
    return 1 + BYTES_OF_WEIGHTS // num_bytes
