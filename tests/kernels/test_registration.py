"""Every operation obeys torch.library's rules and compiles without a graph break."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import weldlm_kernels
from tests.kernels.interpreter import interpret
from weldlm_kernels.backend import Backend

WELDLM = torch.ops.weldlm


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def leaf(*shape: int) -> Tensor:
    return random(*shape).requires_grad_()


def norm_arguments(make: Callable[..., Tensor], *, has_bias: bool, residual: bool) -> list[Any]:
    bias = [make(8)] if has_bias else []
    return [make(2, 3, 8), make(8), *bias, make(2, 3, 8) if residual else None, 1e-5, 1.0]


def attention_arguments(make: Callable[..., Tensor]) -> list[Any]:
    offsets = torch.tensor([0, 2, 5], dtype=torch.int32)
    tensors = [make(5, 4, 8), make(5, 2, 8), make(5, 2, 8), offsets, offsets]
    return [*tensors, 3, 3, True, 2, 0.3, None, 128, False, None, None, 0.0, None]


def cross_entropy_arguments(make: Callable[..., Tensor]) -> list[Any]:
    targets = torch.tensor([3, -100, 0])
    tensors = [make(3, 8), make(11, 8), make(11), targets, random(3)]
    return [*tensors, -100, 0.1, 0.01, 2.0, True, [True, True, True]]


def kl_divergence_arguments(make: Callable[..., Tensor]) -> list[Any]:
    mask = torch.tensor([True, False, True])
    tensors = [make(3, 8), make(11, 8), random(3, 4), random(11, 4), mask, random(3)]
    return [*tensors, 2.0, [True, True]]


def rotary_arguments(make: Callable[..., Tensor]) -> list[Any]:
    return [make(3, 2, 8), random(9, 3), random(9, 3), torch.tensor([0, 5, 8]), True]


OPERATIONS: dict[str, Callable[[], list[Any]]] = {
    "layer_norm": lambda: norm_arguments(leaf, has_bias=True, residual=True),
    "layer_norm-plain": lambda: norm_arguments(leaf, has_bias=True, residual=False),
    "layer_norm_backward": lambda: [
        random(2, 3, 8),
        None,
        random(2, 3, 8),
        *map(random, (8, 6, 6)),
        1.0,
    ],
    "layer_norm-no-weight": lambda: [leaf(2, 3, 8), None, leaf(8), None, 1e-5, 0.0],
    "layer_norm_backward-no-weight": lambda: [
        random(2, 3, 8),
        None,
        random(2, 3, 8),
        None,
        *map(random, (6, 6)),
        0.0,
    ],
    "rms_norm": lambda: norm_arguments(leaf, has_bias=False, residual=True),
    "rms_norm-plain": lambda: norm_arguments(leaf, has_bias=False, residual=False),
    "rms_norm_backward": lambda: [
        random(2, 3, 8),
        random(2, 3, 8),
        random(2, 3, 8),
        *map(random, (8, 6)),
        1.0,
    ],
    "rms_norm-no-weight": lambda: [leaf(2, 3, 8), None, leaf(2, 3, 8), 1e-5, 0.0],
    "rms_norm_backward-no-weight": lambda: [
        random(2, 3, 8),
        None,
        random(2, 3, 8),
        None,
        random(6),
        0.0,
    ],
    "attention": lambda: attention_arguments(leaf),
    "linear_cross_entropy": lambda: cross_entropy_arguments(leaf),
    "linear_kl_divergence": lambda: kl_divergence_arguments(leaf),
}


def overload(name: str) -> Any:
    return getattr(WELDLM, name.partition("-")[0]).default


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_obeys_the_rules_of_torch_library(name: str) -> None:
    torch.library.opcheck(overload(name), (*OPERATIONS[name](), "cpu"))


@pytest.mark.parametrize(
    "name",
    [
        "layer_norm",
        "layer_norm_backward",
        "rms_norm",
        "rms_norm_backward",
        "rms_norm-no-weight",
        "rms_norm_backward-no-weight",
    ],
)
def test_triton_launch_obeys_the_rules_of_torch_library(name: str) -> None:
    with interpret():
        torch.library.opcheck(overload(name), (*OPERATIONS[name](), "gpu"))


def test_rotary_obeys_the_rules_of_torch_library() -> None:
    with interpret():
        torch.library.opcheck(WELDLM.rotary.default, (*rotary_arguments(leaf), "gpu"))


def test_fake_outputs_are_contiguous_where_inputs_are_not() -> None:
    x, weight, bias, _, *options = norm_arguments(leaf, has_bias=True, residual=False)

    torch.library.opcheck(
        WELDLM.layer_norm.default,
        (x.transpose(0, 1), weight, bias, x.transpose(0, 1), *options, "cpu"),
    )


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    y, stream = weldlm_kernels.layer_norm(x, weight, bias, residual=residual)
    return y * stream


def rms_norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    y, stream = weldlm_kernels.rms_norm(x, weight, residual=residual)
    return y * stream + bias


def attention(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    offsets = torch.tensor([0, 2, 6], dtype=torch.int32)
    q, k, v = ((x * scale).view(6, 2, 4) for scale in (weight, bias, 1.0))
    out, _ = weldlm_kernels.attention(
        q,
        k,
        v,
        q_offsets=offsets,
        k_offsets=offsets,
        q_max_length=4,
        k_max_length=4,
        is_causal=True,
    )
    return out.view(6, 8) + residual


def linear_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    targets = torch.tensor([0, 5, -100, 2, 2, 1])
    loss, count = weldlm_kernels.linear_cross_entropy(x * weight + bias, residual, targets)
    return loss / count


def linear_kl_divergence(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    teacher = torch.linspace(-1, 1, 24).view(6, 4)
    loss, count = weldlm_kernels.linear_kl_divergence(x * weight + bias, residual, teacher, teacher)
    return loss / count


def rotary(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    angles, positions = torch.linspace(0, 1, 18).view(9, 2), torch.tensor([0, 8, 1, 2, 3, 3])
    rotated = weldlm_kernels.rotary(
        (x * weight).view(6, 2, 4), angles.cos(), angles.sin(), positions
    )
    return rotated.view(6, 8) * residual + bias


@pytest.mark.parametrize(
    "function",
    [layer_norm, rms_norm, attention, linear_cross_entropy, linear_kl_divergence, rotary],
    ids=lambda function: function.__name__,
)
def test_compiled_equals_eager_with_gradients(function: Callable[..., Tensor]) -> None:
    eager_inputs = [leaf(6, 8), leaf(8), leaf(8), leaf(6, 8)]
    compiled_inputs = [leaf(6, 8), leaf(8), leaf(8), leaf(6, 8)]
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)

    expected = function(*eager_inputs)
    actual = compiled(*compiled_inputs)
    expected.sum().backward()
    actual.sum().backward()

    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close([x.grad for x in compiled_inputs], [x.grad for x in eager_inputs])


def test_one_compiled_graph_serves_any_number_of_rows() -> None:
    def normalize(x: Tensor, weight: Tensor) -> Tensor:
        return weldlm_kernels.rms_norm(x, weight)

    compiled = torch.compile(normalize, backend="aot_eager", fullgraph=True, dynamic=True)
    weight = random(8)
    compiled(random(4, 8), weight)

    with torch.compiler.set_stance("fail_on_recompile"):
        actual = compiled(random(7, 8), weight)

    torch.testing.assert_close(actual, normalize(random(7, 8), weight))


def recomputed_attention(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    offsets = torch.tensor([0, 2, 6], dtype=torch.int32)
    q, k, v = ((x * scale).view(6, 2, 4) for scale in (weight, bias, 1.0))
    out, _ = weldlm_kernels.attention(
        q,
        k,
        v,
        q_offsets=offsets,
        k_offsets=offsets,
        q_max_length=4,
        k_max_length=4,
        is_causal=True,
        softcap=2.0,
    )
    return out.view(6, 8) + residual


@pytest.mark.parametrize(
    "function",
    [
        layer_norm,
        rms_norm,
        attention,
        recomputed_attention,
        linear_cross_entropy,
        linear_kl_divergence,
    ],
    ids=lambda function: function.__name__,
)
def test_second_derivative_is_refused_by_name(function: Callable[..., Tensor]) -> None:
    inputs = [leaf(6, 8), leaf(8), leaf(8), leaf(6, 8)]
    result = function(*inputs).sum()

    with pytest.raises(RuntimeError, match=r"was differentiated with create_graph.*use_backend"):
        torch.autograd.grad(result, inputs, create_graph=True, allow_unused=True)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_second_derivative_of_rotary_is_that_of_the_reference(backend: Backend) -> None:
    def second_derivative(backend: Backend) -> Tensor:
        x = leaf(6, 8)
        with interpret(), weldlm_kernels.use_backend(backend):
            loss = (rotary(x, random(8), random(8), random(6, 8)) ** 3).sum()
            (grad,) = torch.autograd.grad(loss, x, create_graph=True)
            return torch.autograd.grad((grad**2).sum(), x)[0]

    actual, expected = second_derivative(backend), second_derivative("reference")

    torch.testing.assert_close(actual, expected)
