"""activate and activate_gated on a CPU, against PyTorch.

python -m pytest benchmarks/bench_gated_mlp.py --benchmark-enable --benchmark-columns=min,median
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.compare import Comparison
from weldlm_kernels import activate, activate_gated, use_backend
from weldlm_kernels.backend import Backend
from weldlm_kernels.gated_mlp import Activation

__all__ = ["comparisons"]

SHAPES = [(1, 3072), (32, 3072), (2048, 3072)]  # rows, width
FORMS: dict[str, tuple[Any, Activation]] = {
    "gelu": (activate, "gelu"),
    "gelu_tanh": (activate, "gelu_tanh"),
    "silu gated": (activate_gated, "silu"),
}


def run(form: str, backend: Backend, x: Tensor) -> Tensor:
    function, activation = FORMS[form]
    with use_backend(backend):
        return function(x, activation=activation)  # type: ignore[no-any-return]


def run_backward(form: str, backend: Backend, x: Tensor) -> None:
    x.grad = None
    run(form, backend, x).sum().backward()


def make_input(form: str, shape: tuple[int, int]) -> Tensor:
    rows, width = shape
    return torch.randn(rows, 2 * width if "gated" in form else width, requires_grad=True)


def comparisons() -> Iterator[Comparison]:
    for form in FORMS:
        for shape in SHAPES:
            x = make_input(form, shape)
            torch.testing.assert_close(run(form, "cpu", x), run(form, "reference", x))
            yield Comparison(
                f"{form} {shape}, forward and backward",
                "torch",
                partial(run_backward, form, "cpu", x),
                partial(run_backward, form, "reference", x),
            )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("form", FORMS)
def test_forward(benchmark: Any, form: str, backend: Backend, shape: tuple[int, int]) -> None:
    benchmark.group = f"{form} {shape} forward, inference"
    x = make_input(form, shape)

    with torch.inference_mode():
        out = benchmark(run, form, backend, x)
        expected = run(form, "reference", x)

    torch.testing.assert_close(out, expected)
