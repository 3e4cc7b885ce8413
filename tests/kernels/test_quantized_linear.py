from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import interpret
from weldlm_kernels import QuantizedWeight, quantize_weight, quantized_linear, use_backend
from weldlm_kernels.backend import Backend
from weldlm_kernels.quantized_linear import gpu
from weldlm_kernels.quantized_linear.weight import dequantize

FORMATS: dict[str, dict[str, Any]] = {
    "int8": {"bits": 8},
    "int4-32": {"bits": 4, "group_size": 32},
    "int4-64-minimums": {"bits": 4, "group_size": 64, "has_minimums": True},
    "int4-128-minimums": {"bits": 4, "group_size": 128, "has_minimums": True},
}
ALL_FORMATS = pytest.mark.parametrize("name", FORMATS)
BACKENDS = pytest.mark.parametrize("backend", ["reference", "gpu"])


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def quantized(channels: int, depth: int, name: str) -> QuantizedWeight:
    return quantize_weight(random(channels, depth), **FORMATS[name])


def exact_weight(weight: QuantizedWeight) -> Tensor:
    """In fp64, where each product of an integer and a scale is exact."""
    return dequantize(
        weight.values, weight.scales, weight.minimums, weight.group_size, torch.float64
    )


def assert_within_bound(
    actual: Tensor, x: Tensor, weight: QuantizedWeight, bias: Tensor | None
) -> None:
    """Asserts what fp32 sums of K products, rounded to the dtype of x, can be away from exact.

    Products of integers with 8 digits and x are rounded once, as is each of K sums and at most two
    more for scale and bias: K + 3 roundings of 2^-24 at the sum of magnitudes. The reference also
    rounds integer * scale. The result is rounded once to its dtype.
    """
    matrix, inputs = exact_weight(weight), x.double()
    exact, magnitude = inputs @ matrix.mT, inputs.abs() @ matrix.abs().mT
    if bias is not None:
        exact, magnitude = exact + bias.double(), magnitude + bias.double().abs()
    allowed = (x.shape[-1] + 4) * 2.0**-24 * magnitude
    allowed = allowed + torch.finfo(x.dtype).eps / 2 * (exact.abs() + allowed)
    excess = ((actual.double() - exact).abs() - allowed).max().item() if actual.numel() else 0.0
    assert excess <= 0, f"error exceeds its bound by {excess}"


# (rows, channels, depth): one row, the most of the narrow tile, beside it, a wide tile, no rows
SIZES = [(1, 70, 256), (16, 33, 128), (17, 65, 384), (130, 129, 128), (0, 8, 128)]


@ALL_FORMATS
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)],
    ids=str,
)
def test_gpu_is_within_the_bound(dtype: torch.dtype, size: tuple[int, int, int], name: str) -> None:
    rows, channels, depth = size
    weight, x = quantized(channels, depth, name), random(rows, depth, dtype=dtype)
    bias = random(channels, dtype=dtype)

    with interpret(), use_backend("gpu"):
        y = quantized_linear(x, weight, bias)

    assert y.dtype == dtype
    assert_within_bound(y, x, weight, bias)


@ALL_FORMATS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_reference_is_within_the_bound(dtype: torch.dtype, name: str) -> None:
    weight, x = quantized(70, 256, name), random(3, 256, dtype=dtype)

    assert_within_bound(quantized_linear(x, weight), x, weight, None)


@pytest.mark.parametrize("splits", [2, 4, 8])
@pytest.mark.parametrize("name", ["int8", "int4-64-minimums"])
def test_any_split_of_the_depth_is_within_the_bound(
    monkeypatch: pytest.MonkeyPatch, name: str, splits: int
) -> None:
    monkeypatch.setattr(gpu, "num_splits", lambda *_: splits)
    weight, x, bias = quantized(10, 1088, name), random(2, 1088), random(10)

    with interpret(), use_backend("gpu"):
        y = quantized_linear(x, weight, bias)

    assert_within_bound(y, x, weight, bias)


def test_depth_of_8_bits_needs_no_multiple() -> None:
    weight, x = quantized(19, 131, "int8"), random(4, 131)

    with interpret(), use_backend("gpu"):
        y = quantized_linear(x, weight)

    assert_within_bound(y, x, weight, None)


def test_splits_fill_the_gpu_and_leave_each_a_step() -> None:
    tile = gpu.Tile(rows=16, channels=64, depth=128, warps=4, stages=4)

    found = [
        gpu.num_splits(rows, channels, steps, tile, 132)
        for rows, channels, steps in [(1, 4096, 32), (1, 32000, 32), (1, 64, 1), (1, 64, 32)]
    ]

    # 64 and 500 programs of 264 wanted; one step; most splits
    assert found == [8, 1, 1, 8]


@BACKENDS
def test_strided_input_of_any_rank_is_within_the_bound(backend: Backend) -> None:
    weight, x = quantized(10, 64, "int4-32"), random(3, 64, 2).transpose(1, 2)

    with interpret(), use_backend(backend):
        y = quantized_linear(x, weight)

    assert y.shape == (3, 2, 10)
    assert_within_bound(y, x, weight, None)


@ALL_FORMATS
def test_quantized_weights_are_within_half_a_step(name: str) -> None:
    original = random(40, 256)
    weight = quantize_weight(original, **FORMATS[name])

    restored = exact_weight(weight)

    steps = weight.scales.double().repeat_interleave(original.numel() // weight.scales.numel())
    error = (restored - original).abs().flatten()
    assert bool((error <= steps / 2 * (1 + 2.0**-20)).all())


@pytest.mark.parametrize(("name", "most"), [("int8", 127), ("int4-32", 7)])
def test_integers_survive_the_round_trip(name: str, most: int) -> None:
    integers = torch.randint(-most, most + 1, (6, 256), generator=torch.Generator().manual_seed(1))
    integers[:, ::32] = most

    weight = quantize_weight(integers.float(), **FORMATS[name])

    assert torch.equal(exact_weight(weight), integers.double())


def test_grid_of_steps_above_a_minimum_stays_as_it_is() -> None:
    """What GGUF's Q4_1 holds: scale * integer + minimum, with both in fp16."""
    integers = torch.randint(0, 16, (6, 256), generator=torch.Generator().manual_seed(1)).float()
    integers[:, ::32], integers[:, 1::32] = 0, 15
    scales, minimums = random(6, 8).abs().half().float(), random(6, 8).half().float()
    grid = integers.unflatten(1, (8, 32)) * scales[..., None] + minimums[..., None]

    weight = quantize_weight(grid.flatten(1), bits=4, group_size=32, has_minimums=True)

    restored = dequantize(weight.values, weight.scales, weight.minimums, weight.group_size)
    assert torch.equal(restored, grid.flatten(1))


def test_bytes_hold_the_halves_of_a_group() -> None:
    integers = torch.arange(32).remainder(15) - 7.0

    weight = quantize_weight(integers[None], bits=4, group_size=32)

    stored = (integers + 8).to(torch.uint8)
    assert weight.values.tolist() == [(stored[:16] | (stored[16:] << 4)).tolist()]
    assert (weight.out_features, weight.in_features) == (1, 32)


@ALL_FORMATS
def test_zero_weights_give_zero(name: str) -> None:
    weight = quantize_weight(torch.zeros(3, 128), **FORMATS[name])

    assert torch.equal(quantized_linear(random(2, 128), weight), torch.zeros(2, 3))


@BACKENDS
@ALL_FORMATS
def test_gradient_is_that_of_the_dequantized_weight(name: str, backend: Backend) -> None:
    weight, x = quantized(33, 128, name), random(5, 128).requires_grad_()
    grad_y = random(5, 33)

    with interpret(), use_backend(backend):
        quantized_linear(x, weight).backward(grad_y)

    matrix = exact_weight(weight)
    exact, magnitude = grad_y.double() @ matrix, grad_y.double().abs() @ matrix.abs()
    assert x.grad is not None
    # N products and sums in fp32, and the rounding of integer * scale
    assert bool(((x.grad.double() - exact).abs() <= (33 + 2) * 2.0**-24 * magnitude).all())


def test_operation_obeys_the_rules_of_torch_library() -> None:
    weight = quantized(9, 128, "int4-64-minimums")
    parts = (weight.values, weight.scales, weight.minimums, random(9), weight.group_size)

    with interpret():
        torch.library.opcheck(
            torch.ops.weldlm.quantized_linear.default,
            (random(2, 3, 128).requires_grad_(), *parts, "gpu"),
        )


@BACKENDS
def test_compiled_equals_eager_with_gradient(backend: Backend) -> None:
    weight, leaves = quantized(9, 64, "int4-32"), [random(3, 64), random(3, 64)]

    def call(x: Tensor) -> Tensor:
        return quantized_linear(x, weight).square().sum()

    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    with interpret(), use_backend(backend):
        for function, leaf in zip((call, compiled), leaves, strict=True):
            function(leaf.requires_grad_()).backward()

    torch.testing.assert_close(leaves[1].grad, leaves[0].grad)


def test_second_derivative_is_refused_by_name() -> None:
    x = random(2, 64).requires_grad_()

    with interpret(), use_backend("gpu"):
        y = quantized_linear(x, quantized(3, 64, "int4-32"))
        with pytest.raises(RuntimeError, match="quantized_linear was differentiated with create_"):
            torch.autograd.grad(y.sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("weight", "arguments", "message"),
    [
        (torch.zeros(2, 3, 4), {"bits": 8}, r"weight \(2, 3, 4\); expected \[N, K\]"),
        (torch.zeros(2, 64), {"bits": 2}, "bits is 2; expected 8 or 4"),
        (torch.zeros(2, 64), {"bits": 8, "has_minimums": True}, "has_minimums is True with 8 bits"),
        (torch.zeros(2, 64), {"bits": 4, "group_size": 16}, "group_size is 16 for weight"),
        (torch.zeros(2, 64), {"bits": 4, "group_size": 128}, r"expected one of \(32, 64, 128\)"),
        (torch.full((2, 64), float("nan")), {"bits": 8}, "weight holds NaN or infinity"),
        (torch.full((2, 64), 7e4), {"bits": 4, "group_size": 32}, "weight reaches 70000; expected"),
    ],
    ids=["rank", "bits", "minimums", "group", "depth", "nan", "large"],
)
def test_weight_that_cannot_be_quantized_is_named(
    weight: Tensor, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize_weight(weight, **arguments)


@pytest.mark.parametrize(
    ("x", "bias", "message"),
    [
        (torch.zeros(2, 32), None, r"x \(2, 32\) does not fit a weight of 3 output and 64 input"),
        (torch.zeros(2, 64), torch.zeros(4), r"bias \(4,\) on cpu; expected \(3,\) on cpu"),
        (torch.zeros(2, 64), torch.zeros(3, requires_grad=True), "bias needs a gradient"),
    ],
    ids=["x", "bias", "gradient"],
)
def test_what_does_not_fit_is_named(x: Tensor, bias: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantized_linear(x, quantized(3, 64, "int4-32"), bias)


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"x is torch\.int64"):
        quantized_linear(torch.zeros(2, 64).long(), quantized(3, 64, "int4-32"))
