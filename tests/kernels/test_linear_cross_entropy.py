"""linear_cross_entropy against its reference in fp64, on every backend."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import interpret
from tests.kernels.largest_tensor import LargestTensor
from tests.tolerance import assert_within_tolerance
from weldlm_kernels import _cpu, linear_cross_entropy, use_backend
from weldlm_kernels.linear_cross_entropy import cpu, gpu, reference
from weldlm_kernels.linear_cross_entropy.options import LossOptions

IGNORE_INDEX = -100
GRAD_LOSS = 0.37  # of the loss in every backward pass: a gradient must scale with it
HIDDEN_SIZE = 20
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@dataclass(frozen=True, slots=True)
class Problem:
    hidden: Tensor  # [N, HIDDEN_SIZE]
    weight: Tensor  # [vocab_size, HIDDEN_SIZE]
    bias: Tensor | None  # [vocab_size]
    targets: Tensor  # [N]

    def to(self, dtype: torch.dtype) -> "Problem":
        bias = None if self.bias is None else self.bias.to(dtype)
        return Problem(self.hidden.to(dtype), self.weight.to(dtype), bias, self.targets)

    def leaves(self) -> list[Tensor]:
        tensors = [self.hidden, self.weight] + ([] if self.bias is None else [self.bias])
        return [tensor.detach().requires_grad_() for tensor in tensors]


def random_problem(
    num_rows: int,
    vocab_size: int,
    *,
    has_bias: bool = True,
    dtype: torch.dtype = torch.float32,
    scale: float = 1.0,
) -> Problem:
    """A third of the rows has no label; `scale` is the size of the logits."""
    generator = torch.Generator().manual_seed(1000 * num_rows + vocab_size)
    hidden = torch.randn(num_rows, HIDDEN_SIZE, generator=generator)
    weight = torch.randn(vocab_size, HIDDEN_SIZE, generator=generator) * scale / HIDDEN_SIZE**0.5
    bias = torch.randn(vocab_size, generator=generator) * scale if has_bias else None
    targets = torch.randint(0, vocab_size, (num_rows,), generator=generator)
    targets[1::3] = IGNORE_INDEX
    return Problem(hidden, weight, bias, targets).to(dtype)


Results = dict[str, Tensor]


def results(problem: Problem, operation: Callable[..., tuple[Tensor, Tensor]]) -> Results:
    """The loss, the count and each gradient, of `operation(hidden, weight, bias, targets)`."""
    leaves = problem.leaves()
    bias = leaves[2] if len(leaves) == 3 else None
    loss_sum, count = operation(leaves[0], leaves[1], bias, problem.targets)
    gradients = torch.autograd.grad(loss_sum * GRAD_LOSS, leaves)
    names = ("grad_hidden", "grad_weight", "grad_bias")
    return {"loss_sum": loss_sum, "count": count, **dict(zip(names, gradients, strict=False))}


def fused(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Any:
    return linear_cross_entropy(hidden, weight, targets, bias=bias, ignore_index=IGNORE_INDEX)


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Any:
    loss_sum, count, _ = reference.linear_cross_entropy(
        hidden, weight, bias, targets, None, LossOptions()
    )
    return loss_sum, count


def assert_right(actual: Results, problem: Problem) -> None:
    same_dtype, fp64 = results(problem, plain), results(problem.to(torch.float64), plain)
    assert actual.keys() == fp64.keys()
    assert actual["count"].item() == fp64["count"].item()
    for name in actual.keys() - {"count"}:
        assert_within_tolerance(name, actual[name], same_dtype[name], fp64[name])


@pytest.fixture(params=_cpu.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[None]:
    chosen = _cpu.instruction_set()
    _cpu.force_instruction_set(request.param)
    yield
    _cpu.force_instruction_set(chosen)


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def num_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["cpu", "gpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    running: AbstractContextManager[None] = interpret() if request.param == "gpu" else nullcontext()
    with running, use_backend(request.param):
        yield request.param


@pytest.mark.usefixtures("instruction_set", "num_threads")
@pytest.mark.parametrize("has_bias", [False, True], ids=["no-bias", "bias"])
@pytest.mark.parametrize(
    ("num_rows", "vocab_size"), [(1, 1), (7, 7), (40, 257), (257, 1000), (3, 50257)]
)
def test_cpu_equals_reference(num_rows: int, vocab_size: int, has_bias: bool) -> None:
    problem = random_problem(num_rows, vocab_size, has_bias=has_bias)

    with use_backend("cpu"):
        actual = results(problem, fused)

    assert_right(actual, problem)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("has_bias", [False, True], ids=["no-bias", "bias"])
@pytest.mark.parametrize(("num_rows", "vocab_size"), [(1, 1), (7, 7), (13, 257), (5, 10007)])
def test_gpu_equals_reference(
    num_rows: int, vocab_size: int, has_bias: bool, dtype: torch.dtype
) -> None:
    problem = random_problem(num_rows, vocab_size, has_bias=has_bias, dtype=dtype)

    with interpret(), use_backend("gpu"):
        actual = results(problem, fused)

    assert_right(actual, problem)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 100, 101])
def test_chunks_of_a_few_rows_on_a_cpu_equal_reference(
    num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "CHUNK_BYTES", 0)
    monkeypatch.setattr(cpu, "FEWEST_ROWS", 2)
    problem = random_problem(num_rows, 65)

    with use_backend("cpu"):
        actual = results(problem, fused)

    assert_right(actual, problem)


@pytest.mark.parametrize("num_rows", [128, 129, 300])
def test_chunks_of_128_rows_on_a_gpu_equal_reference(
    num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "CHUNK_BYTES", 0)
    problem = random_problem(num_rows, 65, dtype=torch.bfloat16)

    with interpret(), use_backend("gpu"):
        actual = results(problem, fused)

    assert_right(actual, problem)


@pytest.mark.usefixtures("backend")
def test_logits_of_ten_thousand_equal_reference() -> None:
    problem = random_problem(9, 300, scale=1e4)

    actual = results(problem, fused)

    assert_right(actual, problem)


@pytest.mark.usefixtures("backend")
def test_a_large_offset_of_all_logits_costs_no_digits() -> None:
    torch.manual_seed(0)
    rows = torch.arange(9)
    # each row of hidden picks a column of a weight that fp32 holds exactly: exact logits
    weight = 8192 + torch.randint(0, 8192, (300, HIDDEN_SIZE)) / 1024
    problem = Problem(torch.eye(HIDDEN_SIZE)[rows], weight, None, rows)

    actual = results(problem, fused)

    assert_right(actual, problem)


@pytest.mark.usefixtures("backend")
def test_logits_of_minus_infinity_equal_reference() -> None:
    problem = random_problem(9, 2050)
    assert problem.bias is not None
    problem.bias[problem.targets.max() + 1 :] = -torch.inf

    actual = results(problem, fused)

    assert_right(actual, problem)


@pytest.mark.usefixtures("backend")
def test_a_strided_hidden_and_weight_equal_reference() -> None:
    problem = random_problem(9, 40)
    strided = Problem(
        problem.hidden.T.contiguous().T, problem.weight.T.contiguous().T, None, problem.targets
    )

    actual = results(strided, fused)

    assert_right(actual, strided)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("num_rows", [0, 6], ids=["no-rows", "no-labels"])
def test_nothing_labelled_gives_no_loss_and_no_gradient(num_rows: int) -> None:
    problem = random_problem(num_rows, 33)
    problem.targets.fill_(IGNORE_INDEX)

    actual = results(problem, fused)

    assert {name: result.abs().sum().item() for name, result in actual.items()} == {
        "loss_sum": 0.0,
        "count": 0,
        "grad_hidden": 0.0,
        "grad_weight": 0.0,
        "grad_bias": 0.0,
    }


@pytest.mark.usefixtures("backend")
def test_loss_without_gradient_equals_loss_with() -> None:
    problem = random_problem(7, 130)
    expected = results(problem, fused)["loss_sum"]

    with torch.no_grad():
        actual, _ = fused(problem.hidden, problem.weight, problem.bias, problem.targets)

    assert actual.item() == pytest.approx(expected.item(), rel=1e-7)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("chosen", [[0], [1], [2], [0, 2]], ids=str)
def test_a_frozen_tensor_leaves_the_other_gradients_as_they_are(chosen: list[int]) -> None:
    problem = random_problem(7, 130)
    names = ["grad_hidden", "grad_weight", "grad_bias"]
    everything = results(problem, fused)
    leaves = problem.leaves()
    wanted = [leaves[i].requires_grad_(i in chosen) for i in range(3)]

    loss_sum, _ = fused(leaves[0], leaves[1], leaves[2], problem.targets)
    gradients = torch.autograd.grad(loss_sum * GRAD_LOSS, [wanted[i] for i in chosen])

    expected = tuple(everything[names[i]] for i in chosen)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=0)


@pytest.mark.usefixtures("backend")
def test_gradients_survive_a_second_backward_pass() -> None:
    problem = random_problem(7, 130)
    leaves = problem.leaves()

    loss_sum, _ = fused(leaves[0], leaves[1], leaves[2], problem.targets)
    first = torch.autograd.grad(loss_sum * GRAD_LOSS, leaves, retain_graph=True)
    second = torch.autograd.grad(loss_sum * GRAD_LOSS, leaves)

    torch.testing.assert_close(second, first, rtol=0, atol=0)


def test_an_fp32_weight_beside_a_bf16_hidden_gets_an_fp32_gradient() -> None:
    problem = random_problem(9, 130, has_bias=False)
    weight = problem.weight.bfloat16().float().requires_grad_()
    same_dtype = problem.to(torch.bfloat16)

    with interpret(), use_backend("gpu"):
        loss_sum, _ = fused(same_dtype.hidden, weight, None, problem.targets)
        (grad_weight,) = torch.autograd.grad(loss_sum * GRAD_LOSS, weight)

    expected = results(same_dtype.to(torch.float64), plain)["grad_weight"]
    torch_error = results(same_dtype, plain)["grad_weight"]
    assert grad_weight.dtype == torch.float32
    assert_within_tolerance("grad_weight", grad_weight.bfloat16(), torch_error, expected)


@pytest.mark.usefixtures("num_threads")
def test_cpu_is_deterministic() -> None:
    problem = random_problem(90, 5003)

    with use_backend("cpu"):
        first, second = results(problem, fused), results(problem, fused)

    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("target", [257, -1, -101])
def test_a_target_outside_the_vocabulary_is_refused_on_a_cpu(target: int) -> None:
    problem = random_problem(5, 257)
    problem.targets[3] = target

    with (
        use_backend("cpu"),
        pytest.raises(ValueError, match=rf"targets contain {target}; expected 0 <= target < 257"),
    ):
        fused(problem.hidden, problem.weight, problem.bias, problem.targets)


@pytest.mark.parametrize("target", [63, 2**40, -1, -(2**40)])
def test_a_target_outside_the_vocabulary_leaves_other_rows_alone_on_a_gpu(target: int) -> None:
    problem = random_problem(5, 63)
    with interpret(), use_backend("gpu"):
        expected = results(problem, fused)["grad_hidden"]
        problem.targets[3] = target

        actual = results(problem, fused)["grad_hidden"]

    others = torch.tensor([0, 1, 2, 4])
    torch.testing.assert_close(actual[others], expected[others], rtol=0, atol=0)


def test_no_tensor_holds_all_logits() -> None:
    num_rows, vocab_size = 1000, 50_000
    hidden, weight = torch.randn(num_rows, 4), torch.randn(vocab_size, 4)
    targets = torch.zeros(num_rows, dtype=torch.int64)

    with LargestTensor() as largest:  # type: ignore[no-untyped-call]  # has no types in torch
        needs_grad = [True, True, False]
        cpu.linear_cross_entropy(hidden, weight, None, targets, None, LossOptions(), needs_grad)

    assert largest.numel * hidden.itemsize <= cpu.CHUNK_BYTES


@pytest.mark.parametrize("has_bias", [False, True], ids=["no-bias", "bias"])
@pytest.mark.usefixtures("backend")
def test_registration_is_sound(backend: str, has_bias: bool) -> None:
    problem = random_problem(4, 9, has_bias=has_bias)
    hidden, weight, *rest = problem.leaves()
    bias = rest[0] if rest else None
    needs_grad, options = [True, True, has_bias], [IGNORE_INDEX, 0.0, 0.0, None, False]

    torch.library.opcheck(
        torch.ops.weldlm.linear_cross_entropy.default,
        (hidden, weight, bias, problem.targets, None, *options, needs_grad, backend),
    )


@pytest.mark.usefixtures("backend")
def test_compiled_equals_reference() -> None:
    problem = random_problem(7, 130)

    actual = results(problem, torch.compile(fused, fullgraph=True, backend="aot_eager"))

    assert_right(actual, problem)
