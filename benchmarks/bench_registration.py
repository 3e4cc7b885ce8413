"""What calling a registered operation costs, against torch.library.custom_op and a plain call.

python -m pytest benchmarks/bench_registration.py --benchmark-enable --benchmark-columns=min,median
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from weldlm_kernels.registration import differentiable, register

SIZE = 8  # small enough that the call is all there is to time


def double(x: Tensor) -> Tensor:
    return x * 2


def double_backward(_: Any, grad: Tensor) -> Tensor:
    return grad * 2


def save_nothing(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    pass


def register_by_library() -> Callable[[Tensor], Tensor]:
    op = register("benchmark_double(Tensor x) -> Tensor", double, torch.empty_like)
    return differentiable(op, double, save_nothing, double_backward)


def register_by_custom_op() -> Callable[[Tensor], Tensor]:
    op = torch.library.custom_op("weldlm_benchmark::double", double, mutates_args=())
    op.register_fake(torch.empty_like)
    op.register_autograd(double_backward, setup_context=save_nothing)
    return op


CALLS = {
    "plain": double,
    "weldlm": register_by_library(),
    "custom_op": register_by_custom_op(),
}


@pytest.mark.benchmark(group="inference")
@pytest.mark.parametrize("name", CALLS)
def test_inference(benchmark: Any, name: str) -> None:
    x = torch.randn(SIZE)

    with torch.inference_mode():
        out = benchmark(CALLS[name], x)

    assert out.equal(x * 2)


@pytest.mark.benchmark(group="training: forward")
@pytest.mark.parametrize("name", CALLS)
def test_forward(benchmark: Any, name: str) -> None:
    x = torch.randn(SIZE, requires_grad=True)

    out = benchmark(CALLS[name], x)

    assert out.requires_grad


@pytest.mark.benchmark(group="training: forward and backward")
@pytest.mark.parametrize("name", CALLS)
def test_forward_and_backward(benchmark: Any, name: str) -> None:
    x = torch.randn(SIZE, requires_grad=True)
    ones = torch.ones(SIZE)

    def run() -> tuple[Tensor, ...]:
        return torch.autograd.grad(CALLS[name](x), x, ones)

    (grad,) = benchmark(run)

    assert grad.equal(2 * ones)
