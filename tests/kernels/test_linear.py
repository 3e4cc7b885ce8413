"""linear with a weight packed for a CPU, on each instruction set that there is."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.tolerance import assert_within_tolerance
from weldlm_kernels import _cpu, linear, pack_weight, use_backend

# (rows, channels, depth): one row, tiles of 6 and less, several sums along the depth, one product
SIZES = [(1, 70, 257), (3, 17, 1031), (17, 33, 64), (64, 16, 7), (2, 1, 1), (0, 8, 5)]


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


def assert_correct(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    exact = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert_within_tolerance("y", y, functional.linear(x, weight, bias), exact)


@pytest.mark.usefixtures("instruction_set", "num_threads")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_is_that_of_torch(size: tuple[int, int, int]) -> None:
    rows, channels, depth = size
    x, weight, bias = random(rows, depth), random(channels, depth), random(channels)

    assert_correct(linear(x, pack_weight(weight), bias), x, weight, bias)


@pytest.mark.usefixtures("instruction_set", "num_threads")
@pytest.mark.parametrize("channels", [48, 4099])
def test_row_has_the_same_bits_alone_and_among_others(channels: int) -> None:
    packed, x, bias = pack_weight(random(channels, 300)), random(64, 300), random(channels)

    parts = [linear(part, packed, bias) for part in x.split([1, 4, 59])]

    assert torch.equal(torch.cat(parts), linear(x, packed, bias))


@pytest.mark.usefixtures("instruction_set")
def test_unaligned_and_strided_tensors_are_read() -> None:
    weight, bias = random(21, 128), random(22)[1:]
    x, strided = random(7 * 128 + 1)[1:].view(7, 128), random(128, 7).T
    packed = pack_weight(weight)

    assert x.data_ptr() % 64
    assert_correct(linear(x, packed, bias), x, weight, bias)
    assert_correct(linear(strided, packed), strided, weight, None)


@pytest.mark.parametrize("channels", [16, 21])
def test_packing_loses_nothing(channels: int) -> None:
    weight = random(channels, 37)

    assert torch.equal(pack_weight(weight).unpack(), weight)


def test_gradient_of_x_is_that_of_torch() -> None:
    weight, grad_y = random(33, 128), random(5, 33)
    x, same, exact = (random(5, 128).requires_grad_() for _ in range(3))
    exact = exact.detach().double().requires_grad_()

    linear(x, pack_weight(weight)).backward(grad_y)
    functional.linear(same, weight).backward(grad_y)
    functional.linear(exact, weight.double()).backward(grad_y.double())

    assert x.grad is not None
    assert same.grad is not None
    assert exact.grad is not None
    assert_within_tolerance("grad_x", x.grad, same.grad, exact.grad)


def test_operation_obeys_the_rules_of_torch_library() -> None:
    packed = pack_weight(random(9, 64))

    torch.library.opcheck(
        torch.ops.weldlm.packed_linear.default,
        (random(2, 3, 64).requires_grad_(), packed.values, random(9), 9),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_dtypes_take_the_reference(dtype: torch.dtype) -> None:
    weight, x = random(9, 64), random(3, 64).to(dtype)

    assert torch.equal(linear(x, pack_weight(weight)), functional.linear(x, weight.to(dtype)))


def test_plain_weight_is_torch() -> None:
    weight, x = random(9, 64).requires_grad_(), random(3, 64)

    assert torch.equal(linear(x, weight), functional.linear(x, weight))


def test_packed_weight_on_a_gpu_is_refused_by_name() -> None:
    with use_backend("gpu"), pytest.raises(RuntimeError, match="packed weights are for a CPU"):
        linear(random(3, 64), pack_weight(random(9, 64)))


@pytest.mark.parametrize(
    ("x", "bias", "message"),
    [
        (torch.zeros(2, 32), None, r"x \(2, 32\) on cpu does not fit a packed weight of 3 output"),
        (torch.zeros(2, 64), torch.zeros(4), r"bias \(4,\); expected \(3,\)"),
        (torch.zeros(2, 64), torch.zeros(3, requires_grad=True), "bias needs a gradient"),
    ],
    ids=["x", "bias", "gradient"],
)
def test_what_does_not_fit_is_named(x: Tensor, bias: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear(x, pack_weight(torch.zeros(3, 64)), bias)


def test_weight_of_another_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match=r"weight is torch\.float64; expected torch\.float32"):
        pack_weight(torch.zeros(3, 64).double())
