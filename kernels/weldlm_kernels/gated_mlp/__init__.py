"""The elementwise part of an MLP, between its matrix products: bias, activation, gate, dropout.

Forward saves its input alone; backward computes the rest again and writes the gradient of the input
in one pass. Dropout draws by counter (philox.py), so that no mask is stored either.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.dtypes import require_floating_point
from weldlm_kernels.gated_mlp import reference
from weldlm_kernels.registration import differentiable, once_differentiable, register

__all__ = ["Activation", "activate", "activate_gated"]

Activation = Literal["gelu", "gelu_tanh", "silu", "relu", "relu_squared"]


def activate(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Activation,
    dropout_p: float = 0.0,
    dropout_seed: Tensor | None = None,
) -> Tensor:
    """Computes dropout(activation(x + bias)).

    Args:
        x: [..., width], fp32, fp16 or bf16 (fp64 takes the reference, as dropout does on a CPU).
        bias: [width] or None.
        activation: gelu (with erf), gelu_tanh, silu, relu or relu_squared.
        dropout_p: the probability that an element becomes 0; the others are divided by 1 - p.
        dropout_seed: [1] int64, needed where `dropout_p` is above 0; equal seeds drop the same.

    Returns:
        [..., width] in the dtype of `x`.

    Raises:
        ValueError: a shape, the activation or the dropout does not fit.
        TypeError: `x` has no floating-point dtype, or `dropout_seed` is not int64.
    """
    return _dispatch("activate", _activate, x, bias, activation, dropout_p, dropout_seed)


def activate_gated(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Activation,
    dropout_p: float = 0.0,
    dropout_seed: Tensor | None = None,
) -> Tensor:
    """Computes dropout(activation(gate) * up), where x + bias is [gate, up] end to end.

    Args:
        x: [..., 2 * width], fp32, fp16 or bf16 (fp64 takes the reference).
        bias: [2 * width] or None.
        activation: as in `activate`.
        dropout_p: as in `activate`.
        dropout_seed: as in `activate`.

    Returns:
        [..., width] in the dtype of `x`.

    Raises:
        ValueError: a shape, the activation or the dropout does not fit.
        TypeError: `x` has no floating-point dtype, or `dropout_seed` is not int64.
    """
    if x.dim() and x.shape[-1] % 2:
        raise ValueError(
            f"x {tuple(x.shape)}; expected an even last dimension: gate and up end to end"
        )
    return _dispatch(
        "activate_gated", _activate_gated, x, bias, activation, dropout_p, dropout_seed
    )


def _dispatch(
    name: str,
    kernel: Any,
    x: Tensor,
    bias: Tensor | None,
    activation: str,
    dropout_p: float,
    seed: Tensor | None,
) -> Tensor:
    _check(x, bias, activation, dropout_p, seed)
    seed = seed if dropout_p > 0 else None
    backend = choose("gated_mlp", x, () if seed is None else ("dropout",))
    if backend == "reference":
        return getattr(reference, name)(x, bias, seed, activation, dropout_p)  # type: ignore[no-any-return]
    return kernel(x, bias, seed, activation, dropout_p, backend)  # type: ignore[no-any-return]


def _check(
    x: Tensor, bias: Tensor | None, activation: str, dropout_p: float, seed: Tensor | None
) -> None:
    require_floating_point("x", x)
    if not x.dim() or x.shape[-1] == 0:
        raise ValueError(f"x {tuple(x.shape)}; expected [..., width], width above 0")
    if activation not in reference.ACTIVATIONS:
        expected = ", ".join(get_args(Activation))
        raise ValueError(f"activation is {activation!r}; expected one of {expected}")
    if bias is not None and (bias.shape != x.shape[-1:] or bias.device != x.device):
        raise ValueError(
            f"bias {tuple(bias.shape)} on {bias.device} does not fit x {tuple(x.shape)} on "
            f"{x.device}; expected {tuple(x.shape[-1:])} on the device of x"
        )
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p is {dropout_p}; expected at least 0 and below 1")
    if dropout_p > 0 and seed is None:
        raise ValueError(
            f"dropout_p is {dropout_p} and dropout_seed None; expected an int64 tensor of one seed"
        )
    if seed is not None and (seed.dtype != torch.int64 or seed.shape != (1,)):
        raise TypeError(
            f"dropout_seed is {tuple(seed.shape)} {seed.dtype}; expected (1,) torch.int64"
        )


def _activate_forward(
    x: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    activation: str,
    dropout_p: float,
    backend: Any,
) -> Tensor:
    return implementation("gated_mlp", backend).activate(x, bias, seed, activation, dropout_p)  # type: ignore[no-any-return]


def _gated_forward(
    x: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    activation: str,
    dropout_p: float,
    backend: Any,
) -> Tensor:
    kernels = implementation("gated_mlp", backend)
    return kernels.activate_gated(x, bias, seed, activation, dropout_p)  # type: ignore[no-any-return]


def _activate_fake(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _gated_fake(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, seed, ctx.activation, ctx.dropout_p, ctx.backend = inputs
    ctx.save_for_backward(x, bias, seed)


@once_differentiable
def _activate_backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, grad_y, _activate_backward_op)


@once_differentiable
def _gated_backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, grad_y, _gated_backward_op)


def _gradients(ctx: Any, grad_y: Tensor, backward_op: Any) -> tuple[Tensor | None, ...]:
    x, bias, seed = ctx.saved_tensors
    grad_x, grad_bias = backward_op(
        grad_y, x, bias, seed, ctx.activation, ctx.dropout_p, ctx.backend
    )
    return grad_x, None if bias is None else grad_bias, None, None, None, None


def _activate_backward_implementation(
    grad_y: Tensor,
    x: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    activation: str,
    dropout_p: float,
    backend: Any,
) -> tuple[Tensor, Tensor]:
    kernels = implementation("gated_mlp", backend)
    return kernels.activate_backward(grad_y, x, bias, seed, activation, dropout_p)  # type: ignore[no-any-return]


def _gated_backward_implementation(
    grad_y: Tensor,
    x: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    activation: str,
    dropout_p: float,
    backend: Any,
) -> tuple[Tensor, Tensor]:
    kernels = implementation("gated_mlp", backend)
    return kernels.activate_gated_backward(grad_y, x, bias, seed, activation, dropout_p)  # type: ignore[no-any-return]


def _backward_fake(
    grad_y: Tensor, x: Tensor, bias: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor]:
    grad_bias = x.new_empty(0) if bias is None else torch.empty_like(bias)
    return torch.empty_like(x, memory_format=torch.contiguous_format), grad_bias


_INPUTS = "Tensor x, Tensor? bias, Tensor? seed, str activation, float dropout_p, str backend"

_activate_op = register(f"activate({_INPUTS}) -> Tensor", _activate_forward, _activate_fake)
_gated_op = register(f"activate_gated({_INPUTS}) -> Tensor", _gated_forward, _gated_fake)
_activate_backward_op = register(
    f"activate_backward(Tensor grad_y, {_INPUTS}) -> (Tensor grad_x, Tensor grad_bias)",
    _activate_backward_implementation,
    _backward_fake,
)
_gated_backward_op = register(
    f"activate_gated_backward(Tensor grad_y, {_INPUTS}) -> (Tensor grad_x, Tensor grad_bias)",
    _gated_backward_implementation,
    _backward_fake,
)
_activate = differentiable(_activate_op, _activate_forward, _setup_context, _activate_backward)
_activate_gated = differentiable(_gated_op, _gated_forward, _setup_context, _gated_backward)
