"""Compares an operation and its gradients with the reference in fp64."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from tests.kernels.interpreter import interpret
from tests.tolerance import assert_within_tolerance
from weldlm_kernels.backend import Backend, use_backend

__all__ = ["assert_equals_reference", "outputs_and_gradients"]

Inputs = Mapping[str, Tensor | None]


def assert_equals_reference(
    call: Callable[..., Any], inputs: Inputs, *, backend: Backend, floor: float = 2.0
) -> None:
    """Asserts that `call(**inputs)` and all gradients are within tolerance on `backend`.

    Args:
        call: returns a tensor or a tuple of tensors; each floating-point input gets a gradient.
        backend: `gpu` runs in Triton's interpreter unless the inputs are on a GPU.
        floor: see `assert_within_tolerance`.
    """
    exact_inputs = {name: _in_fp64(tensor) for name, tensor in inputs.items()}

    actual = outputs_and_gradients(call, inputs, backend=backend)
    same_dtype = outputs_and_gradients(call, inputs, backend="reference")
    exact = outputs_and_gradients(call, exact_inputs, backend="reference")

    assert actual.keys() == same_dtype.keys() == exact.keys()
    for name, tensor in actual.items():
        assert_within_tolerance(name, tensor, same_dtype[name], exact[name], floor=floor)


def outputs_and_gradients(
    call: Callable[..., Any], inputs: Inputs, *, backend: Backend
) -> dict[str, Tensor]:
    """Runs `call` forward, then backward from fixed random gradients of the outputs."""
    leaves = {name: _as_leaf(tensor) for name, tensor in inputs.items()}
    is_on_gpu = any(x is not None and x.is_cuda for x in leaves.values())
    with nullcontext() if is_on_gpu else interpret(), use_backend(backend):
        result = call(**leaves)
        outputs = result if isinstance(result, tuple) else (result,)
        differentiable = [output for output in outputs if output.requires_grad]
        if differentiable:
            torch.autograd.backward(differentiable, [_gradient_of(out) for out in differentiable])
    found = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    return found | {
        f"grad {name}": _gradient(leaf)
        for name, leaf in leaves.items()
        if leaf is not None and leaf.requires_grad
    }


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _gradient_of(output: Tensor) -> Tensor:
    """Random values that bf16 holds, and so the same in each dtype."""
    generator = torch.Generator().manual_seed(output.numel())
    return torch.randn(output.shape, generator=generator).bfloat16().to(output)


def _as_leaf(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or not tensor.is_floating_point():
        return tensor
    return tensor.detach().requires_grad_()


def _in_fp64(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or not tensor.is_floating_point():
        return tensor
    return tensor.double()
