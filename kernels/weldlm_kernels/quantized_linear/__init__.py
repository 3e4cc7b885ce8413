"""quantized_linear: a linear layer whose weight has 8 or 4 bits, for inference.

The integers are multiplied as they are, exact in each dtype, and the sums scaled in fp32: the
result has no error but that of the sums (integers with a scale for each channel: Dettmers et al.
2022, arXiv:2208.07339; for each group: Frantar et al. 2022, arXiv:2210.17323). There is a gradient
for x, for adapters on a quantized base, and none for the weight.

A weight packed for a CPU is multiplied in integers there, for which x is rounded to 255 levels of
each group of neighbors in a row: 64 of them with 8 bits, a group of the weight's with 4. (255
levels of a whole row would be spent on its few largest channels: Dettmers et al. 2022.) AVX2
without VNNI multiplies 16 bits as fast, and so rounds a row to 127 * 2^n levels of each sign beside
8 bits, with the largest n up to 8 for which K * 2^n <= 2^17: sums then fit in 32 bits.
"""

from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.dtypes import require_floating_point
from weldlm_kernels.quantized_linear import reference
from weldlm_kernels.quantized_linear.packed import PackedQuantizedWeight, pack_quantized_weight
from weldlm_kernels.quantized_linear.weight import QuantizedWeight, quantize_weight
from weldlm_kernels.registration import differentiable, once_differentiable, register

__all__ = [
    "PackedQuantizedWeight",
    "QuantizedWeight",
    "pack_quantized_weight",
    "quantize_weight",
    "quantized_linear",
]


def quantized_linear(
    x: Tensor, weight: QuantizedWeight | PackedQuantizedWeight, bias: Tensor | None = None
) -> Tensor:
    """Computes x @ W^T + bias, with W the weight that `weight` stands for.

    Args:
        x: [..., K], fp32, fp16 or bf16 (fp64 takes the reference).
        weight: of N output and K input channels, from `quantize_weight`; for a CPU also from
            `pack_quantized_weight`, which takes the compiled kernel where x is fp32.
        bias: [N] or None; no gradient.

    Returns:
        [..., N] in the dtype of `x`.

    Raises:
        ValueError: shapes do not fit, the tensors are on several devices, or bias needs a gradient.
        TypeError: `x` has no floating-point dtype.
    """
    _check(x, weight, bias)
    if isinstance(weight, PackedQuantizedWeight):
        if choose("quantized_linear", x) == "cpu":
            return _packed_linear(  # type: ignore[no-any-return]
                x,
                weight.values,
                weight.scales,
                weight.minimums,
                bias,
                weight.group_size,
                weight.out_features,
            )
        weight = weight.unpack()
    backend = choose("quantized_linear", x, ("an unpacked weight",))
    parts = (weight.values, weight.scales, weight.minimums, bias, weight.group_size)
    if backend == "reference":
        return reference.quantized_linear(x, *parts)
    return _quantized_linear(x, *parts, backend)  # type: ignore[no-any-return]


def _check(x: Tensor, weight: QuantizedWeight | PackedQuantizedWeight, bias: Tensor | None) -> None:
    require_floating_point("x", x)
    if not x.dim() or x.shape[-1] != weight.in_features:
        raise ValueError(
            f"x {tuple(x.shape)} does not fit a weight of {weight.out_features} output and "
            f"{weight.in_features} input channels; expected [..., {weight.in_features}]"
        )
    if weight.values.device != x.device:
        raise ValueError(
            f"the weight is on {weight.values.device} and x on {x.device}; expected one device"
        )
    if bias is None:
        return
    if bias.shape != (weight.out_features,) or bias.device != x.device:
        raise ValueError(
            f"bias {tuple(bias.shape)} on {bias.device}; expected ({weight.out_features},) on "
            f"{x.device}"
        )
    if bias.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "bias needs a gradient, and quantized_linear has one for x alone; add bias afterwards"
        )


def _forward(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    bias: Tensor | None,
    group_size: int,
    backend: Any,
) -> Tensor:
    return implementation("quantized_linear", backend).quantized_linear(  # type: ignore[no-any-return]
        x, values, scales, minimums, bias, group_size
    )


def _forward_fake(x: Tensor, values: Tensor, *_: Any) -> Tensor:
    return x.new_empty(*x.shape[:-1], values.shape[0])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, values, scales, minimums, _, ctx.group_size, _ = inputs
    ctx.save_for_backward(values, scales, minimums)


@once_differentiable
def _backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    values, scales, minimums = ctx.saved_tensors
    grad_x = reference.quantized_linear_backward(grad_y, values, scales, minimums, ctx.group_size)
    return grad_x, None, None, None, None, None, None


_forward_op = register(
    "quantized_linear(Tensor x, Tensor values, Tensor scales, Tensor? minimums, Tensor? bias,"
    " int group_size, str backend) -> Tensor",
    _forward,
    _forward_fake,
)
_quantized_linear = differentiable(_forward_op, _forward, _setup_context, _backward)


def _packed_forward(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    bias: Tensor | None,
    group_size: int,
    out_features: int,
) -> Tensor:
    return implementation("quantized_linear", "cpu").quantized_linear(  # type: ignore[no-any-return]
        x, values, scales, minimums, bias, group_size, out_features
    )


def _packed_fake(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    bias: Tensor | None,
    group_size: int,
    out_features: int,
) -> Tensor:
    return x.new_empty(*x.shape[:-1], out_features)


def _packed_setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, scales, minimums, _, ctx.group_size, ctx.out_features = inputs
    ctx.in_features = x.shape[-1]
    ctx.save_for_backward(values, scales, minimums)


@once_differentiable
def _packed_backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    values, scales, minimums = ctx.saved_tensors
    weight = PackedQuantizedWeight(
        values=values,
        scales=scales,
        minimums=minimums,
        bits=4 if ctx.group_size else 8,
        group_size=ctx.group_size,
        out_features=ctx.out_features,
        in_features=ctx.in_features,
    ).unpack()
    grad_x = reference.quantized_linear_backward(
        grad_y, weight.values, weight.scales, weight.minimums, weight.group_size
    )
    return grad_x, None, None, None, None, None, None


_packed_op = register(
    "packed_quantized_linear(Tensor x, Tensor values, Tensor scales, Tensor? minimums,"
    " Tensor? bias, int group_size, int out_features) -> Tensor",
    _packed_forward,
    _packed_fake,
)
_packed_linear = differentiable(
    _packed_op, _packed_forward, _packed_setup_context, _packed_backward
)
