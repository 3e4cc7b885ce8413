"""rotary: rotary position embedding of packed queries or keys, both pair conventions.

`rotary` returns the rotation and has a gradient; `rotary_in_place` is for inference. Where the
positions of a sequence begin is up to the caller: behind those in a cache, for example.
"""

from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.dtypes import refuse_gradient, require_floating_point
from weldlm_kernels.registration import differentiable, register
from weldlm_kernels.rotary import reference

__all__ = ["rotary", "rotary_in_place"]


def rotary(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, *, is_interleaved: bool = False
) -> Tensor:
    """Rotates the first 2 * `cos.shape[1]` channels of every head by the angle of its position.

    Args:
        x: [T, num_heads, head_dim], fp32, fp16 or bf16 (fp64 takes the reference).
        cos: [context_length, rotated / 2], fp32, cosine of position * frequency; no gradient.
        sin: like `cos`.
        positions: [T] int64, from 0 to `context_length` - 1 in any order.
        is_interleaved: pairs are neighboring channels instead of the two halves.

    Returns:
        [T, num_heads, head_dim] in the dtype of `x`.

    Raises:
        ValueError: shapes do not fit.
        TypeError: `x` has no floating-point dtype.
    """
    _check(x, cos, sin, positions)
    backend = choose("rotary", x)
    if backend == "reference":
        return reference.rotary(x, cos, sin, positions, is_interleaved)
    return _rotary(x, cos, sin, positions, is_interleaved, backend)  # type: ignore[no-any-return]


def rotary_in_place(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, *, is_interleaved: bool = False
) -> None:
    """Mutates `x` into its rotation, without a gradient; arguments are those of `rotary`.

    Raises:
        ValueError: shapes do not fit.
        TypeError: `x` has no floating-point dtype.
        RuntimeError: an argument requires a gradient.
    """
    refuse_gradient("rotary_in_place", (x, cos, sin))
    _check(x, cos, sin, positions)
    call = _in_place_op if torch.compiler.is_compiling() else _in_place
    call(x, cos, sin, positions, is_interleaved, choose("rotary", x))


def _check(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor) -> None:
    require_floating_point("x", x)
    if x.dim() != 3 or positions.shape != x.shape[:1]:
        raise ValueError(
            f"x {tuple(x.shape)} and positions {tuple(positions.shape)} do not fit; "
            "expected [T, num_heads, head_dim] and [T]"
        )
    if cos.dim() != 2 or cos.shape != sin.shape or 2 * cos.shape[1] > x.shape[2]:
        raise ValueError(
            f"cos {tuple(cos.shape)} and sin {tuple(sin.shape)} do not fit head_dim {x.shape[2]}; "
            "expected equal [context_length, rotated / 2] with rotated <= head_dim"
        )


def _forward(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool, backend: Any
) -> Tensor:
    return implementation("rotary", backend).rotary(x, cos, sin, positions, is_interleaved)  # type: ignore[no-any-return]


def _in_place(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool, backend: Any
) -> None:
    implementation("rotary", backend).rotary_in_place(x, cos, sin, positions, is_interleaved)


def _in_place_fake(*_: Any) -> None:
    pass


def _forward_fake(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool, backend: str
) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, cos, sin, positions, ctx.is_interleaved, ctx.backend = inputs
    ctx.save_for_backward(cos, sin, positions)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    cos, sin, positions = ctx.saved_tensors
    # the inverse of a rotation is the rotation by the negative angle
    grad_x = _forward_op(grad_out, cos, -sin, positions, ctx.is_interleaved, ctx.backend)
    return grad_x, None, None, None, None, None


_forward_op = register(
    "rotary(Tensor x, Tensor cos, Tensor sin, Tensor positions, bool is_interleaved, str backend)"
    " -> Tensor",
    _forward,
    _forward_fake,
)
_rotary = differentiable(_forward_op, _forward, _setup_context, _backward)
_in_place_op = register(
    "rotary_in_place(Tensor(a!) x, Tensor cos, Tensor sin, Tensor positions, bool is_interleaved,"
    " str backend) -> ()",
    _in_place,
    _in_place_fake,
)
