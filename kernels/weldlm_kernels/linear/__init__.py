"""linear: a linear layer in fp32 whose weight was packed once for the CPU, for inference.

A packed weight is read from memory as one stream, whatever the number of rows, and a row of the
result has the same bits whatever rows stand beside it. There is a gradient for x and none for the
weight. With a plain weight it is torch's own linear layer, gradients and all.
"""

from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.dtypes import require_floating_point
from weldlm_kernels.linear import reference
from weldlm_kernels.linear.packed import PackedWeight, pack_weight
from weldlm_kernels.registration import differentiable, once_differentiable, register

__all__ = ["PackedWeight", "linear", "pack_weight"]


def linear(x: Tensor, weight: Tensor | PackedWeight, bias: Tensor | None = None) -> Tensor:
    """Computes x @ W^T + bias.

    Args:
        x: [..., K].
        weight: [N, K], or packed by `pack_weight`: then fp32 takes the compiled CPU kernel.
        bias: [N] or None; no gradient where the weight is packed.

    Returns:
        [..., N] in the dtype of `x`.

    Raises:
        ValueError: shapes do not fit, or bias needs a gradient beside a packed weight.
        TypeError: `x` has no floating-point dtype.
    """
    if isinstance(weight, Tensor):
        return reference.linear(x, weight, bias)
    _check(x, weight, bias)
    if choose("linear", x) == "cpu":
        return _packed_linear(x, weight.values, bias, weight.out_features)  # type: ignore[no-any-return]
    matrix = weight.unpack().to(x.dtype)
    return reference.linear(x, matrix, None if bias is None else bias.to(x.dtype))


def _check(x: Tensor, weight: PackedWeight, bias: Tensor | None) -> None:
    require_floating_point("x", x)
    if not x.dim() or x.shape[-1] != weight.in_features or x.device.type != "cpu":
        raise ValueError(
            f"x {tuple(x.shape)} on {x.device} does not fit a packed weight of "
            f"{weight.out_features} output and {weight.in_features} input channels; expected "
            f"[..., {weight.in_features}] on the CPU"
        )
    if bias is None:
        return
    if bias.shape != (weight.out_features,):
        raise ValueError(f"bias {tuple(bias.shape)}; expected ({weight.out_features},)")
    if bias.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "bias needs a gradient, and a packed weight has one for x alone; add bias afterwards"
        )


def _forward(x: Tensor, values: Tensor, bias: Tensor | None, out_features: int) -> Tensor:
    return implementation("linear", "cpu").linear(x, values, bias, out_features)  # type: ignore[no-any-return]


def _fake(x: Tensor, values: Tensor, bias: Tensor | None, out_features: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], out_features)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, _, ctx.out_features = inputs
    ctx.in_features = x.shape[-1]
    ctx.save_for_backward(values)


@once_differentiable
def _backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    (values,) = ctx.saved_tensors
    weight = PackedWeight(
        values=values, out_features=ctx.out_features, in_features=ctx.in_features
    ).unpack()
    return grad_y @ weight, None, None, None


_op = register(
    "packed_linear(Tensor x, Tensor values, Tensor? bias, int out_features) -> Tensor",
    _forward,
    _fake,
)
_packed_linear = differentiable(_op, _forward, _setup_context, _backward)
