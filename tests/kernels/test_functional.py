"""functional: results and gradients of torch.nn.functional, whichever side computes them."""

import inspect
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional as theirs

from tests.tolerance import assert_within_tolerance
from weldlm_kernels import functional as ours
from weldlm_kernels import use_backend

Inputs = dict[str, Any]


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + 7)
    return torch.randn(*shape, generator=generator)


def labels(*shape: int, num_classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(num_classes, shape, generator=generator)


TARGETS = labels(9, num_classes=37)
SOME_TARGETS = TARGETS.masked_fill(TARGETS < 12, -100)

# function -> calls whose arguments a fused operation takes, and calls that PyTorch answers
CALLS: dict[str, tuple[str, Inputs]] = {
    "layer norm": (
        "layer_norm",
        {"input": random(5, 3, 33), "normalized_shape": (33,), "weight": random(33),
         "bias": random(33), "eps": 1e-6},
    ),
    "layer norm, no bias": (
        "layer_norm", {"input": random(7, 64), "normalized_shape": [64], "weight": random(64)}
    ),
    "layer norm, no weight": ("layer_norm", {"input": random(7, 64), "normalized_shape": [64]}),
    "layer norm, two dimensions": (
        "layer_norm",
        {"input": random(4, 3, 8), "normalized_shape": (3, 8), "weight": random(3, 8)},
    ),
    "layer norm, no rows": (
        "layer_norm", {"input": random(0, 8), "normalized_shape": (8,), "weight": random(8)}
    ),
    "rms norm": (
        "rms_norm",
        {"input": random(5, 33), "normalized_shape": (33,), "weight": random(33), "eps": 1e-5},
    ),
    "rms norm, default eps": (
        "rms_norm", {"input": random(5, 33), "normalized_shape": (33,), "weight": random(33)}
    ),
    "layer norm, eps below zero": (
        "layer_norm",
        {"input": random(7, 64), "normalized_shape": [64], "weight": random(64), "eps": -1e-4},
    ),
    "rms norm, eps below zero": (
        "rms_norm",
        {"input": random(7, 64), "normalized_shape": [64], "weight": random(64), "eps": -1e-4},
    ),
    "rms norm, no weight": ("rms_norm", {"input": random(5, 33), "normalized_shape": (33,)}),
    "attention": (
        "scaled_dot_product_attention",
        {"query": random(2, 4, 7, 16), "key": random(2, 4, 9, 16), "value": random(2, 4, 9, 8)},
    ),
    "attention, causal": (
        "scaled_dot_product_attention",
        {"query": random(2, 4, 9, 16), "key": random(2, 4, 9, 16), "value": random(2, 4, 9, 16),
         "is_causal": True, "scale": 0.3},
    ),
    "attention, causal, more keys": (
        "scaled_dot_product_attention",
        {"query": random(2, 4, 5, 16), "key": random(2, 4, 9, 16), "value": random(2, 4, 9, 16),
         "is_causal": True},
    ),
    "attention, shared keys": (
        "scaled_dot_product_attention",
        {"query": random(2, 4, 9, 16), "key": random(2, 2, 9, 16), "value": random(2, 2, 9, 16),
         "enable_gqa": True},
    ),
    "attention, mask": (
        "scaled_dot_product_attention",
        {"query": random(2, 4, 9, 16), "key": random(2, 4, 9, 16), "value": random(2, 4, 9, 16),
         "attn_mask": random(9, 9)},
    ),
    "attention, three dimensions": (
        "scaled_dot_product_attention",
        {"query": random(2, 9, 16), "key": random(2, 9, 16), "value": random(2, 9, 16)},
    ),
    "attention, broadcast batch": (
        "scaled_dot_product_attention",
        {"query": random(2, 4, 9, 16), "key": random(1, 4, 9, 16), "value": random(1, 4, 9, 16)},
    ),
    "linear cross-entropy": (
        "linear_cross_entropy",
        {"input": random(9, 16), "linear_weight": random(37, 16), "target": SOME_TARGETS},
    ),
    "linear cross-entropy, sum, bias": (
        "linear_cross_entropy",
        {"input": random(9, 16), "linear_weight": random(37, 16), "target": SOME_TARGETS,
         "linear_bias": random(37), "reduction": "sum"},
    ),
    "linear cross-entropy, ignored class": (
        "linear_cross_entropy",
        {"input": random(9, 16), "linear_weight": random(37, 16), "target": TARGETS,
         "ignore_index": 5},
    ),
    "linear cross-entropy, smoothing": (
        "linear_cross_entropy",
        {"input": random(9, 16), "linear_weight": random(37, 16), "target": SOME_TARGETS,
         "label_smoothing": 0.1},
    ),
    "linear cross-entropy, rows": (
        "linear_cross_entropy",
        {"input": random(9, 16), "linear_weight": random(37, 16), "target": TARGETS,
         "reduction": "none"},
    ),
    "linear cross-entropy, smoothing, weight": (
        "linear_cross_entropy",
        {"input": random(9, 16), "linear_weight": random(37, 16), "target": TARGETS,
         "label_smoothing": 0.1, "weight": random(37).abs()},
    ),
    "linear cross-entropy, probabilities": (
        "linear_cross_entropy",
        {"input": random(9, 16), "linear_weight": random(37, 16),
         "target": random(9, 37).softmax(-1)},
    ),
    "cross-entropy": ("cross_entropy", {"input": random(9, 37), "target": TARGETS}),
    "gelu": ("gelu", {"input": random(9, 37), "approximate": "tanh"}),
    "silu": ("silu", {"input": random(9, 37)}),
    "softmax": ("softmax", {"input": random(9, 37), "dim": 0}),
    "embedding": ("embedding", {"input": TARGETS, "weight": random(37, 8), "padding_idx": 2}),
}  # fmt: skip
FUSED = (
    "layer norm", "layer norm, no bias", "layer norm, no weight", "rms norm",
    "rms norm, default eps", "rms norm, no weight", "attention", "attention, causal",
    "attention, shared keys", "linear cross-entropy", "linear cross-entropy, sum, bias",
    "linear cross-entropy, ignored class", "linear cross-entropy, smoothing",
)  # fmt: skip


def is_differentiable(name: str, inputs: Inputs) -> bool:
    """All but the factors of classes, for which PyTorch has no gradient."""
    return name != "weight" or "linear_weight" not in inputs


def result_and_gradients(
    function: Callable[..., Tensor], inputs: Inputs, dtype: torch.dtype
) -> dict[str, Tensor]:
    leaves = {
        name: value.detach().to(dtype).requires_grad_(is_differentiable(name, inputs))
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in inputs.items()
    }
    result = function(**leaves)
    (
        result * torch.linspace(0.5, 1.5, result.numel()).view(result.shape).to(dtype)
    ).sum().backward()
    gradients = {
        f"gradient of {name}": torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in leaves.items()
        if isinstance(leaf, Tensor) and leaf.requires_grad
    }
    return {"result": result.detach(), **gradients}


def compare(name: str, dtype: torch.dtype) -> None:
    function, inputs = CALLS[name]

    actual = result_and_gradients(getattr(ours, function), inputs, dtype)
    same_dtype = result_and_gradients(getattr(theirs, function), inputs, dtype)
    exact = result_and_gradients(getattr(theirs, function), inputs, torch.float64)

    assert actual.keys() == exact.keys()
    for part, tensor in actual.items():
        assert_within_tolerance(f"{name}: {part}", tensor, same_dtype[part], exact[part], floor=4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_results_and_gradients_are_those_of_torch(name: str, dtype: torch.dtype) -> None:
    compare(name, dtype)


@pytest.mark.parametrize("name", CALLS)
def test_a_fused_operation_answers_where_one_applies(name: str) -> None:
    function, inputs = CALLS[name]
    fused = {
        "scaled_dot_product_attention": "attention",
        "layer_norm": "fused_layer_norm",
        "rms_norm": "fused_rms_norm",
        "linear_cross_entropy": "fused_linear_cross_entropy",
    }.get(function, "attention")

    with patch.object(ours, fused, wraps=getattr(ours, fused)) as spy:
        getattr(ours, function)(**inputs)

    assert spy.called == (name in FUSED)


@pytest.mark.parametrize(
    "name", [name for name in ours.__all__ if name not in ("gelu", "scaled_dot_product_attention")]
)
def test_signature_is_that_of_torch(name: str) -> None:
    def parameters(function: Callable[..., object]) -> list[tuple[str, object, object]]:
        signature = inspect.signature(function)
        return [(p.name, p.kind, p.default) for p in signature.parameters.values()]

    assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name))


def test_dropout_draws_what_torch_draws() -> None:
    q, k, v = (random(2, 4, 9, 16) for _ in range(3))

    torch.manual_seed(0)
    expected = theirs.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
    torch.manual_seed(0)

    assert torch.equal(ours.scaled_dot_product_attention(q, k, v, dropout_p=0.5), expected)


def test_autocast_chooses_the_dtype() -> None:
    x, weight = random(4, 8), random(8)

    with torch.autocast("cpu", torch.bfloat16):
        actual = ours.layer_norm(x.bfloat16(), (8,), weight)
        expected = theirs.layer_norm(x.bfloat16(), (8,), weight)

    assert actual.dtype == expected.dtype
    assert torch.equal(actual, expected)


def test_second_derivatives_are_those_of_pytorch_on_the_reference() -> None:
    x, weight = torch.linspace(-1, 2, 8).requires_grad_(), torch.linspace(1, 2, 8)

    with use_backend("reference"):
        hessian = torch.autograd.functional.hessian(
            lambda x: ours.layer_norm(x, [8], weight).pow(3).sum(), x
        )

    expected = torch.autograd.functional.hessian(
        lambda x: theirs.layer_norm(x, [8], weight).pow(3).sum(), x
    )
    torch.testing.assert_close(hessian, expected)
