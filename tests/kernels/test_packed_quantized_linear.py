"""quantized_linear with a weight packed for a CPU, on each instruction set that there is."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from weldlm_kernels import (
    PackedQuantizedWeight,
    QuantizedWeight,
    _cpu,
    pack_quantized_weight,
    quantize_weight,
    quantized_linear,
    use_backend,
)
from weldlm_kernels.quantized_linear.weight import dequantize

FORMATS: dict[str, dict[str, Any]] = {
    "int8": {"bits": 8},
    "int4-32": {"bits": 4, "group_size": 32},
    "int4-64-minimums": {"bits": 4, "group_size": 64, "has_minimums": True},
    "int4-128": {"bits": 4, "group_size": 128},
}
ALL_FORMATS = pytest.mark.parametrize("name", FORMATS)
# (rows, channels, depth): one row, tiles of 6 and less, several panels, one channel
SIZES = [(1, 70, 256), (3, 17, 128), (17, 33, 384), (64, 16, 128), (2, 1, 128), (0, 8, 128)]


@pytest.fixture(params=_cpu.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    previous = _cpu.instruction_set()
    _cpu.force_instruction_set(request.param)
    yield request.param
    _cpu.force_instruction_set(previous)


@pytest.fixture(params=[1, 2])
def num_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    previous = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(previous)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def weights(channels: int, depth: int, name: str) -> tuple[QuantizedWeight, PackedQuantizedWeight]:
    weight = quantize_weight(random(channels, depth), **FORMATS[name])
    return weight, pack_quantized_weight(weight)


def exact_weight(weight: QuantizedWeight) -> Tensor:
    return dequantize(
        weight.values, weight.scales, weight.minimums, weight.group_size, torch.float64
    )


def rounding(weight: QuantizedWeight) -> tuple[int, int]:
    """How many neighbors of x share a scale, and the largest integer that one becomes."""
    if weight.bits == 4:
        return weight.group_size, 127
    if _cpu.instruction_set() == "avx2":
        depth = weight.in_features
        return depth, 127 * min(256, 2 ** int(math.log2(2**17 / (depth + -depth % 4))))
    return 64, 127


def in_groups(rows: Tensor, size: int) -> Tensor:
    """[..., K] to [..., groups, size], filled up with zeros."""
    return pad(rows, (0, -rows.shape[-1] % size)).unflatten(-1, (-1, size))


def assert_within_bound(
    actual: Tensor, x: Tensor, weight: QuantizedWeight, bias: Tensor | None
) -> None:
    """Asserts what rounding of x and of fp32 can do to the product with the dequantized weight.

    x is rounded to multiples of a step, max |x| / most of its group: half a step off each, and
    `most` roundings of fp32 in x / step. The sums of integers are exact; scaling them takes three
    roundings a group, adding G groups and a bias G + 1, each at most at the sum of magnitudes.
    (Minimums and what they are added to are larger, by far less than what rounding x takes.)
    """
    matrix, inputs = exact_weight(weight), x.double()
    size, most = rounding(weight)
    groups = in_groups(inputs, size)
    steps = groups.abs().amax(dim=-1) / most  # [rows, groups]
    weight_sums = in_groups(matrix.abs(), size).sum(dim=-1)  # [channels, groups]
    exact, magnitude = inputs @ matrix.mT, inputs.abs() @ matrix.abs().mT
    rounded = (0.5 + most * 2.0**-22) * steps @ weight_sums.mT
    if bias is not None:
        exact, magnitude = exact + bias.double(), magnitude + bias.double().abs()
    allowed = rounded + (groups.shape[-2] + 4) * 2.0**-24 * (magnitude + rounded)
    excess = ((actual.double() - exact).abs() - allowed).max().item() if actual.numel() else 0.0
    assert excess <= 0, f"error exceeds its bound by {excess}"


@pytest.mark.usefixtures("instruction_set", "num_threads")
@ALL_FORMATS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_error_is_that_of_rounding_x(size: tuple[int, int, int], name: str) -> None:
    rows, channels, depth = size
    (weight, packed), x, bias = (
        weights(channels, depth, name),
        random(rows, depth),
        random(channels),
    )

    y = quantized_linear(x, packed, bias)

    assert_within_bound(y, x, weight, bias)


@pytest.mark.usefixtures("instruction_set", "num_threads")
@pytest.mark.parametrize("depth", [1, 3, 131])
def test_depth_of_8_bits_needs_no_multiple(depth: int) -> None:
    (weight, packed), x = weights(19, depth, "int8"), random(4, depth)

    assert_within_bound(quantized_linear(x, packed), x, weight, None)


@pytest.mark.usefixtures("instruction_set", "num_threads")
@pytest.mark.parametrize("channels", [48, 4099])
@ALL_FORMATS
def test_row_has_the_same_bits_alone_and_among_others(name: str, channels: int) -> None:
    (_, packed), x = weights(channels, 128, name), random(64, 128)

    together = quantized_linear(x, packed, random(channels))
    parts = [quantized_linear(part, packed, random(channels)) for part in x.split([1, 4, 59])]

    assert torch.equal(torch.cat(parts), together)


@pytest.mark.usefixtures("instruction_set")
@ALL_FORMATS
def test_integers_of_x_are_multiplied_exactly(name: str) -> None:
    integers = torch.randint(-127, 128, (5, 256), generator=torch.Generator().manual_seed(1))
    integers[:, ::32] = 127  # the step of each group is 1
    values = torch.randint(-7, 8, (18, 256), generator=torch.Generator().manual_seed(2))
    values[:, ::32], values[:, 1::32] = 7, -7
    quantized = quantize_weight(values.float(), **FORMATS[name])
    steps = exact_weight(quantized)

    y = quantized_linear(integers.float(), pack_quantized_weight(quantized))

    # the sums stay below 2^18 and every scale is one number, so that scaling rounds thrice
    exact = integers.double() @ steps.mT
    magnitude = integers.double().abs() @ steps.abs().mT
    assert bool(((y.double() - exact).abs() <= 12 * 2.0**-24 * magnitude).all())


@pytest.mark.usefixtures("instruction_set")
@ALL_FORMATS
def test_unaligned_and_strided_tensors_are_read(name: str) -> None:
    (weight, packed), x = weights(21, 128, name), random(7 * 128 + 1)[1:].view(7, 128)
    bias, strided = random(22)[1:], random(128, 7).T

    assert x.data_ptr() % 64
    assert_within_bound(quantized_linear(x, packed, bias), x, weight, bias)
    assert_within_bound(quantized_linear(strided, packed), strided, weight, None)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@ALL_FORMATS
def test_row_that_is_not_finite_gives_nan_and_spoils_no_other(name: str, value: float) -> None:
    (_, packed), x = weights(18, 128, name), random(3, 128)
    expected = quantized_linear(x, packed)
    x[1, 77] = value

    y = quantized_linear(x, packed)

    assert bool(y[1].isnan().all())
    assert torch.equal(y[::2], expected[::2])


@pytest.mark.usefixtures("instruction_set")
@ALL_FORMATS
def test_zeros_and_tiny_numbers_give_zero(name: str) -> None:
    (_, packed), x = weights(18, 128, name), torch.tensor([[0.0], [1e-40]]).expand(2, 128)

    assert torch.equal(quantized_linear(x, packed), torch.zeros(2, 18))


@ALL_FORMATS
@pytest.mark.parametrize("channels", [16, 21])
def test_packing_loses_nothing(channels: int, name: str) -> None:
    weight, packed = weights(channels, 128, name)

    restored = packed.unpack()

    assert torch.equal(restored.values, weight.values)
    assert torch.equal(exact_weight(restored), exact_weight(weight))


@ALL_FORMATS
def test_gradient_is_that_of_the_dequantized_weight(name: str) -> None:
    (weight, packed), x, grad_y = weights(33, 128, name), random(5, 128), random(5, 33)

    quantized_linear(x.requires_grad_(), packed).backward(grad_y)

    matrix = exact_weight(weight)
    exact, magnitude = grad_y.double() @ matrix, grad_y.double().abs() @ matrix.abs()
    assert x.grad is not None
    # N products and sums in fp32, and the rounding of integer * scale
    assert bool(((x.grad.double() - exact).abs() <= (33 + 2) * 2.0**-24 * magnitude).all())


def test_operation_obeys_the_rules_of_torch_library() -> None:
    _, packed = weights(9, 128, "int4-64-minimums")
    parts = (packed.values, packed.scales, packed.minimums, random(9), packed.group_size, 9)

    torch.library.opcheck(
        torch.ops.weldlm.packed_quantized_linear.default,
        (random(2, 3, 128).requires_grad_(), *parts),
    )


def test_compiled_equals_eager() -> None:
    _, packed = weights(9, 64, "int4-32")
    x = random(3, 64)

    compiled = torch.compile(quantized_linear, backend="aot_eager", fullgraph=True)

    assert torch.equal(compiled(x, packed), quantized_linear(x, packed))


def test_reference_takes_a_packed_weight_without_rounding_x() -> None:
    (weight, packed), x = weights(9, 64, "int4-32"), random(3, 64)

    with use_backend("reference"):
        assert torch.equal(quantized_linear(x, packed), quantized_linear(x, weight))


def test_forced_cpu_asks_for_a_packed_weight() -> None:
    weight, _ = weights(9, 64, "int4-32")

    with use_backend("cpu"), pytest.raises(RuntimeError, match="an unpacked weight has no kernel"):
        quantized_linear(random(3, 64), weight)


def test_scales_that_two_bytes_cannot_hold_are_refused() -> None:
    weight, _ = weights(9, 64, "int4-32")
    weight.scales[0, 0] = 1 + 2.0**-12

    with pytest.raises(
        ValueError, match="scales have more digits than fp16; expected those of quantize_w"
    ):
        pack_quantized_weight(weight)
