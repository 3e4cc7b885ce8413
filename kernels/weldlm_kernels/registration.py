"""Registers operations with torch.library at a low cost per call.

`Library.define` and `impl` cost about a third of `torch.library.custom_op`, whose autograd wrapper
dominates small calls (benchmarks/bench_registration.py). One backward rule serves both users: eager
code calls the `autograd.Function`, torch.compile and opcheck see the registered operation.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch._ops import OpOverload

__all__ = ["LIBRARY", "differentiable", "once_differentiable", "register"]

LIBRARY = torch.library.Library("weldlm", "FRAGMENT")


def register(
    schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]
) -> OpOverload[..., Any]:
    """Defines `weldlm::<schema>` for CPU and CUDA tensors, with `fake` giving shapes and dtypes."""
    name = schema.partition("(")[0]
    LIBRARY.define(schema)
    LIBRARY.impl(name, implementation, "CPU")
    LIBRARY.impl(name, implementation, "CUDA")
    torch.library.register_fake(f"weldlm::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.weldlm, name).default  # type: ignore[no-any-return]


def differentiable(
    op: OpOverload[..., Any],
    implementation: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Gives `op` a gradient and returns the function that eager code and torch.compile call.

    Args:
        op: an operation from `register`, with the `implementation` given there.
        setup_context: `(ctx, inputs, output)`, saves what `backward` needs.
        backward: `(ctx, *gradients)`, returns one gradient or None an input, in schema order.
    """

    def forward(ctx: Any, *inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            output = op(*inputs)
        setup_context(ctx, inputs, output)
        return output

    members: dict[str, Any] = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    name = op._schema.name.partition("::")[2]
    function: Any = type(name, (torch.autograd.Function,), members)
    LIBRARY.impl(name, function.apply, "Autograd")

    def call(*inputs: Any) -> Any:
        if torch.compiler.is_compiling():
            return op(*inputs)
        if torch.is_grad_enabled():
            return function.apply(*inputs)
        return implementation(*inputs)

    return call


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a backward rule of kernels refuse `create_graph`: its gradients are constants to torch.

    torch.autograd.function.once_differentiable lets a rule pass whose incoming gradients are
    constants, though its saved tensors are not.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"{ctx.name().removesuffix('Backward')} was differentiated with create_graph, but "
                "its kernels have no second derivative; expected create_graph=False; for second "
                'derivatives run forward under weldlm_kernels.use_backend("reference")'
            )
        return backward(ctx, *gradients)

    return checked
