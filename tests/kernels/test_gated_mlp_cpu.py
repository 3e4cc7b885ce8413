"""activate and activate_gated in C++, on each instruction set that there is."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tests.kernels.oracle import assert_equals_reference
from weldlm_kernels import _cpu, activate, activate_gated, use_backend
from weldlm_kernels.gated_mlp import Activation

ACTIVATIONS: list[Activation] = ["gelu", "gelu_tanh", "silu", "relu", "relu_squared"]
ALL_ACTIVATIONS = pytest.mark.parametrize("activation", ACTIVATIONS)
FORMS = pytest.mark.parametrize("function", [activate, activate_gated], ids=["plain", "gated"])


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


def form(function: Callable[..., Tensor], activation: Activation) -> Callable[..., Tensor]:
    def call(x: Tensor, bias: Tensor | None = None) -> Tensor:
        return function(x, bias, activation=activation)

    return call


def inputs(*shape: int, scale: float = 3.0) -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(sum(shape))
    x, bias = (scale * torch.randn(s, generator=generator) for s in (shape, shape[-1:]))
    return {"x": x, "bias": bias}


@pytest.mark.usefixtures("instruction_set", "num_threads")
@pytest.mark.parametrize("shape", [(1, 2), (5, 34), (3, 7, 30), (2, 2050), (0, 8)], ids=str)
@ALL_ACTIVATIONS
@FORMS
def test_outputs_and_gradients_equal_the_reference(
    function: Callable[..., Tensor], activation: Activation, shape: tuple[int, ...]
) -> None:
    assert_equals_reference(form(function, activation), inputs(*shape), backend="cpu")


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("scale", [1e-3, 0.3, 30.0])
@ALL_ACTIVATIONS
def test_small_and_large_inputs_equal_the_reference(activation: Activation, scale: float) -> None:
    given = inputs(4, 2000, scale=scale)

    assert_equals_reference(form(activate, activation), given, backend="cpu")


@pytest.mark.usefixtures("instruction_set")
@FORMS
def test_strided_input_equals_the_reference(function: Callable[..., Tensor]) -> None:
    def call(x: Tensor) -> Tensor:
        return form(function, "gelu_tanh")(x.transpose(0, 1))

    assert_equals_reference(call, {"x": torch.randn(8, 3, 6)}, backend="cpu")


@pytest.mark.usefixtures("instruction_set")
@ALL_ACTIVATIONS
def test_far_inputs_have_finite_gradients(activation: Activation) -> None:
    x = torch.tensor([[-1e15, -100.0, -0.0, 0.0, 100.0, 1e15, 30.0, -30.0]])

    assert_equals_reference(form(activate, activation), {"x": x}, backend="cpu")


@pytest.mark.usefixtures("instruction_set")
@ALL_ACTIVATIONS
def test_nan_stays(activation: Activation) -> None:
    y = activate(torch.tensor([[1.0, float("nan"), *[2.0] * 20]]), activation=activation)

    assert y.isnan().nonzero().tolist() == [[0, 1]]


@pytest.mark.usefixtures("instruction_set", "num_threads")
@ALL_ACTIVATIONS
@FORMS
def test_row_has_the_same_bits_alone_and_among_others(
    function: Callable[..., Tensor], activation: Activation
) -> None:
    x = torch.randn(37, 2 * 1019)

    together = function(x, activation=activation)

    parts = [function(part, activation=activation) for part in x.split([1, 5, 31])]
    assert torch.equal(torch.cat(parts), together)


def test_dropout_takes_the_reference() -> None:
    x, seed = torch.randn(4, 8), torch.tensor([3])

    y = activate(x, activation="silu", dropout_p=0.5, dropout_seed=seed)

    with use_backend("reference"):
        assert torch.equal(y, activate(x, activation="silu", dropout_p=0.5, dropout_seed=seed))
