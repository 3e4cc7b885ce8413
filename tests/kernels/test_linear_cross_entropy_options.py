"""What linear_cross_entropy adds to the plain cross-entropy: against its reference, and PyTorch."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.kernels.interpreter import interpret
from tests.kernels.largest_tensor import LargestTensor
from tests.kernels.oracle import assert_equals_reference
from weldlm_kernels import linear_cross_entropy, use_backend
from weldlm_kernels.backend import Backend
from weldlm_kernels.linear_cross_entropy import cpu, gpu

# the interpreter tells of overflow in the padding of rows, which no result depends on
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

HIDDEN_SIZE = 20
ALL_OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 2.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "label-smoothing": {"label_smoothing": 0.1},
    "only-smoothing": {"label_smoothing": 1.0},
    "z-loss": {"z_loss": 0.01},
    "softcap": {"softcap": 2.0},
    "wide-softcap": {"softcap": 50.0},
    "row-weights": {},
    "all": ALL_OPTIONS,
}
BACKENDS: list[Backend] = ["cpu", "gpu"]


def make_inputs(
    num_rows: int,
    vocab_size: int,
    dtype: torch.dtype = torch.float32,
    *,
    has_bias: bool = True,
    has_row_weights: bool = True,
) -> dict[str, Any]:
    """A third of the rows has no label; logits are of size 2."""
    generator = torch.Generator().manual_seed(1000 * num_rows + vocab_size)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    targets = torch.randint(0, vocab_size, (num_rows,), generator=generator)
    targets[1::3] = -100
    tensors = {
        "hidden": random(num_rows, HIDDEN_SIZE),
        "weight": 2 * random(vocab_size, HIDDEN_SIZE) / HIDDEN_SIZE**0.5,
        "bias": random(vocab_size) if has_bias else None,
    }
    inputs = {name: None if x is None else x.to(dtype) for name, x in tensors.items()}
    row_weights = random(num_rows) if has_row_weights else None
    return inputs | {"targets": targets, "row_weights": row_weights}


def loss_sum(*, row_weights: Tensor | None, options: dict[str, Any], **tensors: Any) -> Tensor:
    if row_weights is not None:
        row_weights = row_weights.detach()
    total: Tensor = linear_cross_entropy(**tensors, row_weights=row_weights, **options)[0]
    return total


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    running: AbstractContextManager[None] = interpret() if request.param == "gpu" else nullcontext()
    with running, use_backend(request.param):
        yield request.param


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_option_equals_reference(backend: Backend, name: str) -> None:
    inputs = make_inputs(13, 257, has_row_weights="weights" in name)

    assert_equals_reference(partial(loss_sum, options=OPTIONS[name]), inputs, backend=backend)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("num_rows", "vocab_size"), [(1, 1), (7, 2049)])
def test_all_options_on_a_gpu_equal_reference(
    num_rows: int, vocab_size: int, dtype: torch.dtype
) -> None:
    inputs = make_inputs(num_rows, vocab_size, dtype)

    assert_equals_reference(partial(loss_sum, options=ALL_OPTIONS), inputs, backend="gpu")


@pytest.mark.parametrize(("num_rows", "vocab_size"), [(1, 1), (7, 2049), (257, 1000)])
def test_all_options_on_a_cpu_equal_reference(num_rows: int, vocab_size: int) -> None:
    inputs = make_inputs(num_rows, vocab_size)

    assert_equals_reference(partial(loss_sum, options=ALL_OPTIONS), inputs, backend="cpu")


@pytest.mark.parametrize("backend", BACKENDS)
def test_options_hold_over_several_chunks(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "CHUNK_BYTES", 0)
    monkeypatch.setattr(cpu, "FEWEST_ROWS", 50)
    monkeypatch.setattr(gpu, "CHUNK_BYTES", 0)
    inputs = make_inputs(131, 33)

    assert_equals_reference(partial(loss_sum, options=ALL_OPTIONS), inputs, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_smoothing_survives_a_large_offset_of_all_logits(backend: Backend) -> None:
    inputs = make_inputs(7, 300, has_row_weights=False)
    inputs["bias"] = inputs["bias"] + 3000

    smoothed = partial(loss_sum, options={"label_smoothing": 0.3})

    assert_equals_reference(smoothed, inputs, backend=backend)


@pytest.mark.usefixtures("backend")
def test_smoothing_is_that_of_pytorch() -> None:
    inputs = make_inputs(13, 65, has_bias=False, has_row_weights=False)
    logits = (inputs["hidden"] @ inputs["weight"].T).double()

    actual, count = linear_cross_entropy(**inputs, label_smoothing=0.2)

    expected = functional.cross_entropy(logits, inputs["targets"], label_smoothing=0.2)
    torch.testing.assert_close((actual / count).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.usefixtures("backend")
def test_weighted_sum_is_the_sum_of_the_losses_of_single_rows() -> None:
    inputs = make_inputs(5, 65)
    row_weights = inputs.pop("row_weights")
    hidden, targets = inputs.pop("hidden"), inputs.pop("targets")
    rows = [
        linear_cross_entropy(hidden[i : i + 1], targets=targets[i : i + 1], **inputs)[0]
        for i in range(5)
    ]

    actual, count = linear_cross_entropy(hidden, targets=targets, row_weights=row_weights, **inputs)

    torch.testing.assert_close(actual, (torch.stack(rows) * row_weights).sum())
    assert count == 3


@pytest.mark.usefixtures("backend")
def test_rows_without_a_label_may_hold_nan() -> None:
    inputs = make_inputs(7, 33)
    expected = linear_cross_entropy(**inputs, **ALL_OPTIONS)
    is_ignored = inputs["targets"] == -100
    poisoned = inputs["hidden"].masked_fill(is_ignored[:, None], torch.nan).requires_grad_()
    row_weights = inputs["row_weights"].masked_fill(is_ignored, torch.nan)

    actual = linear_cross_entropy(
        **inputs | {"hidden": poisoned, "row_weights": row_weights}, **ALL_OPTIONS
    )

    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    (grad_hidden,) = torch.autograd.grad(actual[0], poisoned)
    assert grad_hidden[is_ignored].abs().sum().item() == 0.0


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("softcap", [None, 3.0], ids=["no-cap", "cap"])
@pytest.mark.parametrize("vocab_size", [1, 33, 1025])
def test_correct_rows_are_those_whose_argmax_is_their_target(
    vocab_size: int, softcap: float | None
) -> None:
    inputs = make_inputs(17, vocab_size)
    best = (inputs["hidden"] @ inputs["weight"].T + inputs["bias"]).argmax(dim=1)
    inputs["targets"][::2] = best[::2]
    inputs["targets"][4] = -100

    *_, num_correct = linear_cross_entropy(**inputs, softcap=softcap, counts_correct=True)

    assert num_correct.item() == (inputs["targets"] == best).sum().item()


@pytest.mark.usefixtures("backend")
def test_the_first_of_equal_logits_is_the_prediction() -> None:
    hidden, weight = torch.ones(4, 1), torch.tensor([[0.0], [2.0], [2.0], [1.0]])
    targets = torch.tensor([1, 2, 1, 3])

    *_, num_correct = linear_cross_entropy(hidden, weight, targets, counts_correct=True)

    assert num_correct.item() == 2


@pytest.mark.usefixtures("backend")
def test_no_row_of_nan_is_correct() -> None:
    hidden, targets = torch.full((3, 4), torch.nan), torch.tensor([1, 2, 4])

    *_, num_correct = linear_cross_entropy(hidden, torch.ones(5, 4), targets, counts_correct=True)

    assert num_correct.item() == 0


def test_no_tensor_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CHUNK_BYTES", 4 * 70 * 5000)
    inputs = make_inputs(300, 5000)
    inputs["weight"].requires_grad_()

    with LargestTensor() as largest, use_backend("cpu"):  # type: ignore[no-untyped-call]  # of torch
        linear_cross_entropy(**inputs, **ALL_OPTIONS, counts_correct=True)

    assert largest.numel <= max(70, HIDDEN_SIZE) * 5000


@pytest.mark.parametrize("backend", BACKENDS)
def test_registration_with_all_options_is_sound(backend: Backend) -> None:
    inputs = make_inputs(4, 9)
    tensors = [inputs[name].requires_grad_() for name in ("hidden", "weight", "bias")]
    options = [-100, 0.1, 0.01, 2.0, True]

    with interpret():
        torch.library.opcheck(
            torch.ops.weldlm.linear_cross_entropy.default,
            (*tensors, inputs["targets"], inputs["row_weights"], *options, [True] * 3, backend),
        )


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_compiled_options_equal_eager(backend: Backend) -> None:
    inputs = make_inputs(5, 65)
    inputs["hidden"].requires_grad_()

    def loss_and_correct(**inputs: Any) -> Any:
        return linear_cross_entropy(**inputs, **ALL_OPTIONS, counts_correct=True)

    compiled = torch.compile(loss_and_correct, fullgraph=True, backend="aot_eager")
    with interpret(), use_backend(backend):
        actual, expected = compiled(**inputs), loss_and_correct(**inputs)
        actual_grad, expected_grad = (
            torch.autograd.grad(result[0], inputs["hidden"]) for result in (actual, expected)
        )

    torch.testing.assert_close((actual, actual_grad), (expected, expected_grad))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"label_smoothing": 1.5}, r"label_smoothing is 1.5; expected a share from 0 to 1"),
        ({"label_smoothing": float("nan")}, r"label_smoothing is nan"),
        ({"z_loss": -1.0}, r"z_loss is -1.0; expected a factor of 0 or more"),
        ({"softcap": 0.0}, r"softcap is 0.0; expected a number above 0, or None"),
        ({"row_weights": torch.ones(4)}, r"row_weights \(4,\); expected \(5,\)"),
        (
            {"row_weights": torch.ones(5, requires_grad=True)},
            r"row_weights require a gradient.*pass row_weights.detach\(\)",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_options_out_of_range_are_refused(option: dict[str, Any], message: str) -> None:
    inputs = make_inputs(5, 9) | option

    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**inputs)


def test_integer_row_weights_are_refused() -> None:
    inputs = make_inputs(5, 9) | {"row_weights": torch.ones(5, dtype=torch.int64)}

    with pytest.raises(TypeError, match=r"row_weights is torch.int64; expected float32"):
        linear_cross_entropy(**inputs)
