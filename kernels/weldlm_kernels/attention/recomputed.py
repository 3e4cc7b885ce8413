"""attention by its reference for options that a backend lacks, in memory linear in the tokens.

The reference keeps the scores of every sequence for its backward. Here backward computes them
again, one sequence at a time; and torch.compile sees one operation without a graph break.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.attention import reference
from weldlm_kernels.registration import differentiable, once_differentiable, register

__all__ = ["attention"]


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    relative_bias: Tensor | None,
    q_offsets: Tensor,
    k_offsets: Tensor,
    is_causal: bool,
    window: int | None,
    scale: float,
    softcap: float | None,
    max_distance: int,
    is_bidirectional: bool,
) -> tuple[Tensor, Tensor]:
    bias = reference.relative_bias(relative_bias, max_distance, is_bidirectional)
    out, lse = reference.attention(
        q, k, v, q_offsets, k_offsets, is_causal, window, scale, softcap, bias
    )
    return out.contiguous(), lse.contiguous()


def _forward_fake(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    tokens, num_heads = q.shape[:2]
    precision = torch.promote_types(q.dtype, torch.float32)
    out = q.new_empty(tokens, num_heads, v.shape[2])
    return out, q.new_empty(num_heads, tokens, dtype=precision)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, relative_bias, q_offsets, k_offsets, *ctx.settings = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, relative_bias, q_offsets, k_offsets)


@once_differentiable
def _backward(ctx: Any, grad_out: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    # read once: activation checkpointing hands each saved tensor out a single time
    q, k, v, relative_bias, *offsets = ctx.saved_tensors
    grad_q, grad_k, grad_v, grad_bias = _backward_op(
        grad_out, q, k, v, relative_bias, *offsets, *ctx.settings
    )
    has_bias = relative_bias is not None
    return grad_q, grad_k, grad_v, grad_bias if has_bias else None, *(None,) * 8


def _backward_implementation(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    relative_bias: Tensor | None,
    q_offsets: Tensor,
    k_offsets: Tensor,
    *settings: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_q, grad_k, grad_v = (x.new_zeros(x.shape) for x in (q, k, v))
    grad_bias = _grad_like(relative_bias, q)
    for (q_start, q_end), (k_start, k_end) in zip(
        pairwise(q_offsets.tolist()), pairwise(k_offsets.tolist()), strict=True
    ):
        if q_start == q_end or k_start == k_end:
            continue  # nobody sees anything
        rows, keys = slice(q_start, q_end), slice(k_start, k_end)
        parts = q[rows], k[keys], v[keys], relative_bias
        grads = _sequence_gradients(grad_out[rows], *parts, *settings)
        grad_q[rows], grad_k[keys], grad_v[keys] = grads[:3]
        if relative_bias is not None:
            grad_bias += grads[3]
    return grad_q, grad_k, grad_v, grad_bias


def _sequence_gradients(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, relative_bias: Tensor | None, *settings: Any
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v and the bias, where there is one."""
    q_offsets, k_offsets = (torch.tensor([0, x.shape[0]]) for x in (q, k))
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in (q, k, v, relative_bias) if x is not None]
        q, k, v, *bias = leaves
        table = bias[0] if bias else None
        out, _ = _forward(q, k, v, table, q_offsets, k_offsets, *settings)
        grads = torch.autograd.grad(out, leaves, grad_out, allow_unused=True)
    return tuple(
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(leaves, grads, strict=True)
    )


def _grad_like(relative_bias: Tensor | None, q: Tensor) -> Tensor:
    if relative_bias is None:
        return q.new_empty(0)
    return torch.zeros_like(relative_bias, memory_format=torch.contiguous_format)


def _backward_fake(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, relative_bias: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_q, grad_k, grad_v = (x.new_empty(x.shape) for x in (q, k, v))
    return grad_q, grad_k, grad_v, _grad_like(relative_bias, q)


_SETTINGS = (
    "bool is_causal, int? window, float scale, float? softcap, int max_distance,"
    " bool is_bidirectional)"
)
_forward_op = register(
    "attention_recomputed(Tensor q, Tensor k, Tensor v, Tensor? relative_bias, Tensor q_offsets,"
    f" Tensor k_offsets, {_SETTINGS} -> (Tensor out, Tensor lse)",
    _forward,
    _forward_fake,
)
_backward_op = register(
    "attention_recomputed_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v,"
    f" Tensor? relative_bias, Tensor q_offsets, Tensor k_offsets, {_SETTINGS}"
    " -> (Tensor grad_q, Tensor grad_k, Tensor grad_v, Tensor grad_bias)",
    _backward_implementation,
    _backward_fake,
)
attention = differentiable(_forward_op, _forward, _setup_context, _backward)
