"""linear_kl_divergence against its reference in fp64, and against PyTorch's."""

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
from tests.kernels.oracle import assert_equals_reference, outputs_and_gradients
from weldlm_kernels import linear_kl_divergence, use_backend
from weldlm_kernels.backend import Backend
from weldlm_kernels.linear_kl_divergence import cpu, gpu

# the interpreter tells of -inf - -inf in the padding of rows, which no result depends on
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

BACKENDS: list[Backend] = ["cpu", "gpu"]
SHAPES = [(1, 1), (7, 33), (13, 4099)]
OF_STUDENT = ("student_hidden", "student_weight")


def make_inputs(
    num_rows: int, vocab_size: int, dtype: torch.dtype = torch.float32, *, scale: float = 2.0
) -> dict[str, Any]:
    """Hidden sizes 20 and 12; `scale` is the size of the logits."""
    generator = torch.Generator().manual_seed(1000 * num_rows + vocab_size)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    tensors = {
        "student_hidden": random(num_rows, 20),
        "student_weight": random(vocab_size, 20) * scale / 20**0.5,
        "teacher_hidden": random(num_rows, 12),
        "teacher_weight": random(vocab_size, 12) * scale / 12**0.5,
    }
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def loss_sum(*, row_weights: Tensor | None = None, **arguments: Any) -> Tensor:
    if row_weights is not None:
        row_weights = row_weights.detach()
    return linear_kl_divergence(**arguments, row_weights=row_weights)[0]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    running: AbstractContextManager[None] = interpret() if request.param == "gpu" else nullcontext()
    with running, use_backend(request.param):
        yield request.param


def test_reference_is_kl_div_of_pytorch() -> None:
    inputs = make_inputs(7, 33, torch.float64)
    log_q, log_p = (
        functional.log_softmax(inputs[f"{who}_hidden"] @ inputs[f"{who}_weight"].T / 3, dim=1)
        for who in ("student", "teacher")
    )

    with use_backend("reference"):
        actual, count = linear_kl_divergence(**inputs, temperature=3.0)

    expected = functional.kl_div(log_q, log_p, reduction="sum", log_target=True)
    torch.testing.assert_close(actual, expected)
    assert count == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("num_rows", "vocab_size"), SHAPES)
def test_gpu_equals_reference(num_rows: int, vocab_size: int, dtype: torch.dtype) -> None:
    inputs = make_inputs(num_rows, vocab_size, dtype)

    assert_equals_reference(loss_sum, inputs, backend="gpu")


@pytest.mark.parametrize(("num_rows", "vocab_size"), [*SHAPES, (257, 1000)])
def test_cpu_equals_reference(num_rows: int, vocab_size: int) -> None:
    assert_equals_reference(loss_sum, make_inputs(num_rows, vocab_size), backend="cpu")


@pytest.mark.parametrize("temperature", [0.5, 4.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_mask_weights_and_temperature_equal_reference(backend: Backend, temperature: float) -> None:
    inputs = make_inputs(13, 65)
    inputs |= {"mask": torch.arange(13) % 3 != 1, "row_weights": torch.linspace(-1, 2, 13)}

    assert_equals_reference(partial(loss_sum, temperature=temperature), inputs, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_of_few_rows_equal_reference(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "CHUNK_BYTES", 0)
    monkeypatch.setattr(cpu, "FEWEST_ROWS", 50)
    monkeypatch.setattr(gpu, "CHUNK_BYTES", 0)
    inputs = make_inputs(131, 33) | {"mask": torch.arange(131) % 3 != 1}

    assert_equals_reference(loss_sum, inputs, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_of_ten_thousand_equal_reference(backend: Backend) -> None:
    assert_equals_reference(loss_sum, make_inputs(9, 300, scale=1e4), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_models_that_nearly_agree_equal_reference(backend: Backend) -> None:
    inputs = make_inputs(9, 300)
    student_hidden = inputs["student_hidden"]
    noise = torch.randn(student_hidden.shape, generator=torch.Generator().manual_seed(0))
    inputs["teacher_hidden"] = student_hidden + 1e-2 * noise
    inputs["teacher_weight"] = inputs["student_weight"].clone()

    assert_equals_reference(loss_sum, inputs, backend=backend)


@pytest.mark.usefixtures("backend")
def test_the_teacher_itself_has_no_divergence_and_no_gradient() -> None:
    inputs = make_inputs(9, 300)
    hidden, weight = inputs["teacher_hidden"].requires_grad_(), inputs["teacher_weight"]

    actual, _ = linear_kl_divergence(hidden, weight, hidden.detach(), weight)
    (grad_hidden,) = torch.autograd.grad(actual, hidden)

    assert actual.item() == pytest.approx(0.0, abs=1e-5)
    torch.testing.assert_close(grad_hidden, torch.zeros_like(hidden), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("backend")
def test_rows_outside_the_mask_may_hold_nan() -> None:
    inputs, mask = make_inputs(7, 33), torch.arange(7) % 2 == 0
    expected = linear_kl_divergence(**inputs, mask=mask)
    poisoned = {
        name: inputs[name].masked_fill(~mask[:, None], torch.nan)
        for name in ("student_hidden", "teacher_hidden")
    }
    student_hidden = poisoned["student_hidden"].requires_grad_()

    actual = linear_kl_divergence(**inputs | poisoned, mask=mask)
    (grad_hidden,) = torch.autograd.grad(actual[0], student_hidden)

    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert actual[1].item() == 4
    assert grad_hidden[~mask].abs().sum().item() == 0.0


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("num_rows", [0, 6], ids=["no-rows", "none-counts"])
def test_no_row_that_counts_gives_no_loss_and_no_gradient(num_rows: int) -> None:
    inputs = make_inputs(num_rows, 33)
    student = [inputs[name].requires_grad_() for name in OF_STUDENT]

    loss, count = linear_kl_divergence(**inputs, mask=torch.zeros(num_rows, dtype=torch.bool))
    gradients = torch.autograd.grad(loss, student)

    found = [x.abs().sum().item() for x in (loss, count, *gradients)]
    assert found == [0.0, 0, 0.0, 0.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_teacher_of_another_dtype_equals_reference(backend: Backend) -> None:
    inputs = make_inputs(9, 65)
    teacher = {name: inputs.pop(name).bfloat16() for name in ("teacher_hidden", "teacher_weight")}

    student_alone = outputs_and_gradients(partial(loss_sum, **teacher), inputs, backend=backend)
    expected = outputs_and_gradients(partial(loss_sum, **teacher), inputs, backend="reference")

    torch.testing.assert_close(student_alone, expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("chosen", OF_STUDENT)
def test_a_frozen_tensor_leaves_the_other_gradient_as_it_is(chosen: str) -> None:
    def gradient(names: tuple[str, ...]) -> Tensor:
        inputs = make_inputs(7, 65)
        student = {name: inputs[name].requires_grad_() for name in names}
        loss, _ = linear_kl_divergence(**inputs)
        return torch.autograd.grad(loss, student[chosen])[0]

    torch.testing.assert_close(gradient((chosen,)), gradient(OF_STUDENT), rtol=0, atol=0)


@pytest.mark.usefixtures("backend")
def test_loss_without_gradient_equals_loss_with() -> None:
    inputs = make_inputs(7, 130)
    with torch.no_grad():
        actual, _ = linear_kl_divergence(**inputs)
    inputs["student_weight"].requires_grad_()

    expected, _ = linear_kl_divergence(**inputs)

    assert actual.item() == expected.item()


def test_no_tensor_holds_all_logits_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CHUNK_BYTES", 8 * 70 * 5000)
    inputs = make_inputs(200, 5000)
    tensors = [
        inputs[f"{who}_{what}"] for who in ("student", "teacher") for what in ("hidden", "weight")
    ]

    with LargestTensor() as largest:  # type: ignore[no-untyped-call]  # has no types in torch
        cpu.linear_kl_divergence(*tensors, None, None, 1.0, [True, True])

    assert largest.numel <= 70 * 5000


@pytest.mark.parametrize("backend", BACKENDS)
def test_registration_is_sound(backend: Backend) -> None:
    inputs = make_inputs(4, 9)
    student = [inputs[name].requires_grad_() for name in OF_STUDENT]
    teacher = [inputs["teacher_hidden"], inputs["teacher_weight"]]
    rows = [torch.tensor([True, False, True, True]), torch.ones(4)]

    with interpret():
        torch.library.opcheck(
            torch.ops.weldlm.linear_kl_divergence.default,
            (*student, *teacher, *rows, 2.0, [True, True], backend),
        )


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_compiled_equals_eager(backend: Backend) -> None:
    inputs = make_inputs(5, 65) | {"mask": torch.arange(5) != 2}
    inputs["student_hidden"].requires_grad_()
    compiled = torch.compile(linear_kl_divergence, fullgraph=True, backend="aot_eager")

    with interpret(), use_backend(backend):
        actual, expected = compiled(**inputs), linear_kl_divergence(**inputs)
        actual_grad, expected_grad = (
            torch.autograd.grad(result[0], inputs["student_hidden"])
            for result in (actual, expected)
        )

    torch.testing.assert_close((actual, actual_grad), (expected, expected_grad))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", 0.0, r"temperature is 0.0; expected a number above 0"),
        ("student_weight", torch.ones(9, 3), r"student_hidden .* student_weight \(9, 3\) do not"),
        ("teacher_weight", torch.ones(9, 3), r"teacher_hidden .* teacher_weight \(9, 3\) do not"),
        ("teacher_weight", torch.ones(8, 12), r"5 rows over 9 tokens and the teacher 5 over 8"),
        ("teacher_hidden", torch.ones(4, 12), r"5 rows over 9 tokens and the teacher 4 over 9"),
        ("mask", torch.ones(4, dtype=torch.bool), r"mask \(4,\); expected \(5,\)"),
        ("row_weights", torch.ones(4), r"row_weights \(4,\); expected \(5,\)"),
        ("row_weights", torch.ones(5, requires_grad=True), r"pass row_weights.detach\(\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(name: str, value: Any, message: str) -> None:
    inputs = make_inputs(5, 9) | {name: value}

    with pytest.raises(ValueError, match=message):
        linear_kl_divergence(**inputs)


def test_a_mask_of_integers_is_refused() -> None:
    inputs = make_inputs(5, 9)

    with pytest.raises(TypeError, match=r"mask is torch.int64; expected torch.bool"):
        linear_kl_divergence(**inputs, mask=torch.ones(5, dtype=torch.int64))
