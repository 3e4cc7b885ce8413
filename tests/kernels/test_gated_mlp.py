from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.kernels.interpreter import interpret
from tests.kernels.oracle import assert_equals_reference, outputs_and_gradients
from weldlm_kernels import activate, activate_gated, use_backend
from weldlm_kernels.backend import Backend
from weldlm_kernels.gated_mlp import Activation

# exp of a far input overflows on its way to 0, in NumPy with a warning
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")

ACTIVATIONS: list[Activation] = ["gelu", "gelu_tanh", "silu", "relu", "relu_squared"]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
FORMS = pytest.mark.parametrize("function", [activate, activate_gated], ids=["plain", "gated"])
SEED = torch.tensor([2**40 + 3])


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, *, has_bias: bool = False
) -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(sum(shape))
    x, bias = (3 * torch.randn(s, generator=generator) for s in (shape, shape[-1:]))
    return {"x": x.to(dtype), "bias": bias.to(dtype) if has_bias else None}


def form(
    function: Callable[..., Tensor], activation: Activation, dropout_p: float = 0.0
) -> Callable[..., Tensor]:
    def call(x: Tensor, bias: Tensor | None = None) -> Tensor:
        return function(x, bias, activation=activation, dropout_p=dropout_p, dropout_seed=SEED)

    return call


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@FORMS
def test_gpu_equals_reference(
    function: Callable[..., Tensor], activation: Activation, dtype: torch.dtype
) -> None:
    inputs = make_inputs((3, 7, 30), dtype, has_bias=True)

    assert_equals_reference(form(function, activation), inputs, backend="gpu")


# one element, a prime width, rows beside a tile's, a width beside a tile's, no rows
@pytest.mark.parametrize("shape", [(1, 2), (5, 34), (33, 64), (2, 2050), (0, 8)], ids=str)
@FORMS
def test_any_shape_equals_reference(
    function: Callable[..., Tensor], shape: tuple[int, int]
) -> None:
    assert_equals_reference(
        form(function, "silu"), make_inputs(shape, torch.float32), backend="gpu"
    )


@pytest.mark.parametrize("has_bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("shape", [(6, 10), (3, 1030)], ids=str)
@FORMS
def test_dropout_drops_what_the_reference_drops(
    function: Callable[..., Tensor], shape: tuple[int, int], has_bias: bool
) -> None:
    inputs = make_inputs(shape, torch.float32, has_bias=has_bias)

    assert_equals_reference(form(function, "gelu", 0.4), inputs, backend="gpu")


def test_dropout_leaves_some_and_divides_them_by_their_share() -> None:
    x = torch.rand(50, 40) + 1

    y = activate(x, activation="relu", dropout_p=0.25, dropout_seed=SEED)

    is_kept = y != 0
    assert 0.6 < is_kept.float().mean() < 0.9
    torch.testing.assert_close(y[is_kept], x[is_kept] / 0.75)


@FORMS
def test_strided_input_equals_reference(function: Callable[..., Tensor]) -> None:
    def call(x: Tensor) -> Tensor:
        return form(function, "gelu_tanh")(x.transpose(0, 1))

    assert_equals_reference(call, {"x": torch.randn(8, 3, 6)}, backend="gpu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_far_inputs_have_finite_gradients(activation: Activation) -> None:
    x = torch.tensor([[-1e15, -100.0, -0.0, 0.0, 100.0, 1e15, 30.0, -30.0]])

    assert_equals_reference(form(activate, activation), {"x": x}, backend="gpu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_stays(activation: Activation) -> None:
    x = torch.tensor([[1.0, float("nan")]])

    with interpret(), use_backend("gpu"):
        y = activate(x, activation=activation)

    assert y.isnan().tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("activation", "definition"),
    [
        ("gelu", functional.gelu),
        ("gelu_tanh", lambda x: functional.gelu(x, approximate="tanh")),
        ("silu", functional.silu),
        ("relu", functional.relu),
    ],
)
def test_reference_computes_the_bits_of_pytorch(
    activation: Activation, definition: Callable[[Tensor], Tensor]
) -> None:
    x = torch.randn(5, 24)
    gate, up = x.chunk(2, dim=-1)

    with use_backend("reference"):
        plain, gated = activate(x, activation=activation), activate_gated(x, activation=activation)

    assert torch.equal(plain, definition(x))
    assert torch.equal(gated, definition(gate) * up)


@FORMS
def test_backward_is_the_same_each_time(function: Callable[..., Tensor]) -> None:
    inputs = make_inputs((300, 40), torch.float32, has_bias=True)

    first, second = (
        outputs_and_gradients(form(function, "silu"), inputs, backend="gpu") for _ in range(2)
    )

    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["activate", "activate_gated"])
def test_operation_obeys_the_rules_of_torch_library(name: str) -> None:
    x, bias = (torch.randn(shape).requires_grad_() for shape in ((2, 3, 8), (8,)))

    with interpret():
        torch.library.opcheck(
            getattr(torch.ops.weldlm, name).default, (x, bias, SEED, "gelu", 0.3, "gpu")
        )


@pytest.mark.parametrize("name", ["activate_backward", "activate_gated_backward"])
def test_backward_obeys_the_rules_of_torch_library(name: str) -> None:
    x, bias = torch.randn(2, 3, 8), torch.randn(8)
    grad_y = torch.randn(2, 3, 4) if "gated" in name else torch.randn(2, 3, 8)

    with interpret():
        torch.library.opcheck(
            getattr(torch.ops.weldlm, name).default, (grad_y, x, bias, SEED, "gelu", 0.3, "gpu")
        )


@pytest.mark.parametrize("backend", ["reference", "gpu"])
@FORMS
def test_compiled_equals_eager(function: Callable[..., Tensor], backend: Backend) -> None:
    call = form(function, "silu", 0.3)
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    inputs = make_inputs((5, 8), torch.float32, has_bias=True)

    actual = outputs_and_gradients(compiled, inputs, backend=backend)

    expected = outputs_and_gradients(call, inputs, backend=backend)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@FORMS
def test_second_derivative_is_refused_by_name(function: Callable[..., Tensor]) -> None:
    x = torch.randn(2, 8, requires_grad=True)

    with interpret(), use_backend("gpu"):
        y = function(x, activation="gelu")
        with pytest.raises(RuntimeError, match=r"activate.* was differentiated with create_graph"):
            torch.autograd.grad(y.sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "tanh"}, r"activation is 'tanh'; expected one of gelu, gelu_tanh, silu"),
        ({"bias": torch.zeros(4)}, r"bias \(4,\) on cpu does not fit x \(2, 8\)"),
        ({"dropout_p": 1.0}, r"dropout_p is 1.0; expected at least 0 and below 1"),
        ({"dropout_p": 0.5}, r"dropout_p is 0.5 and dropout_seed None; expected an int64"),
        ({"x": torch.zeros(())}, r"x \(\); expected \[\.\.\., width\]"),
    ],
    ids=["activation", "bias", "share", "seed", "scalar"],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"x": torch.zeros(2, 8), "activation": "gelu"}

    with pytest.raises(ValueError, match=message):
        activate(**(arguments | change))  # type: ignore[arg-type]


def test_gated_input_of_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x \(2, 7\); expected an even last dimension"):
        activate_gated(torch.zeros(2, 7), activation="gelu")


@pytest.mark.parametrize(
    ("x", "seed", "message"),
    [
        (torch.zeros(2, 8, dtype=torch.int64), SEED, "x is torch.int64"),
        (torch.zeros(2, 8), SEED.int(), r"dropout_seed is \(1,\) torch.int32; expected \(1,\)"),
    ],
    ids=["x", "seed"],
)
def test_dtypes_that_do_not_fit_are_named(x: Tensor, seed: Tensor, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        activate(x, activation="gelu", dropout_p=0.5, dropout_seed=seed)
