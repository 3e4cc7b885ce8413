"""layer_norm and rms_norm with a residual on a CPU, against PyTorch.

python -m pytest benchmarks/bench_norms.py --benchmark-enable --benchmark-columns=min,median
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.compare import Comparison
from weldlm_kernels import layer_norm, rms_norm

__all__ = ["comparisons"]

SHAPES = [(1, 768), (64, 768), (2048, 768), (512, 4096)]  # rows, hidden_size
EPS = 1e-5


Outputs = tuple[Tensor, Tensor]  # the normalized values and the stream


def torch_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Outputs:
    stream = x + residual
    return functional.layer_norm(stream, x.shape[-1:], weight, bias, EPS), stream


def weldlm_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Outputs:
    return layer_norm(x, weight, bias, residual=residual, eps=EPS)


def torch_rms_norm(x: Tensor, weight: Tensor, _: Tensor, residual: Tensor) -> Outputs:
    stream = x + residual
    return functional.rms_norm(stream, x.shape[-1:], weight, EPS), stream


def weldlm_rms_norm(x: Tensor, weight: Tensor, _: Tensor, residual: Tensor) -> Outputs:
    return rms_norm(x, weight, residual=residual, eps=EPS)


Norm = Callable[[Tensor, Tensor, Tensor, Tensor], Outputs]
PAIRS: dict[str, dict[str, Norm]] = {
    "layer_norm": {"torch": torch_layer_norm, "weldlm": weldlm_layer_norm},
    "rms_norm": {"torch": torch_rms_norm, "weldlm": weldlm_rms_norm},
}


def make_inputs(shape: tuple[int, int]) -> list[Tensor]:
    return [torch.randn(size, requires_grad=True) for size in (shape, shape[1:], shape[1:], shape)]


def run_backward(norm: Norm, inputs: list[Tensor], grad: Tensor) -> None:
    for tensor in inputs:
        tensor.grad = None
    torch.autograd.backward(norm(*inputs), [grad, grad])


def comparisons() -> Iterator[Comparison]:
    for op, sides in PAIRS.items():
        for shape in SHAPES:
            inputs, grad = make_inputs(shape), torch.randn(shape)
            torch.testing.assert_close(sides["weldlm"](*inputs), sides["torch"](*inputs))
            yield Comparison(
                f"{op} + residual {shape}, forward and backward",
                "torch",
                partial(run_backward, sides["weldlm"], inputs, grad),
                partial(run_backward, sides["torch"], inputs, grad),
            )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("library", ["torch", "weldlm"])
@pytest.mark.parametrize("op", PAIRS)
def test_forward(benchmark: Any, op: str, library: str, shape: tuple[int, int]) -> None:
    benchmark.group = f"{op} {shape} forward, inference"
    inputs = make_inputs(shape)

    with torch.inference_mode():
        out = benchmark(PAIRS[op][library], *inputs)
        expected = PAIRS[op]["torch"](*inputs)

    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("library", ["torch", "weldlm"])
@pytest.mark.parametrize("op", PAIRS)
def test_forward_and_backward(
    benchmark: Any, op: str, library: str, shape: tuple[int, int]
) -> None:
    benchmark.group = f"{op} {shape} forward and backward"
    inputs, grad = make_inputs(shape), torch.randn(shape)

    benchmark(run_backward, PAIRS[op][library], inputs, grad)

    gradients = [x.grad for x in inputs if x.grad is not None]
    run_backward(PAIRS[op]["torch"], inputs, grad)
    # sums over rows in another order; the tests judge accuracy
    expected = [x.grad for x in inputs if x.grad is not None]
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-3)
