"""attention by its reference for options that a backend lacks, in memory linear in the tokens.

The reference keeps the scores of every sequence for its backward. Here backward computes them
again, one sequence at a time; and torch.compile sees one operation without a graph break.
"""

from itertools import pairwise

import torch
from torch import Tensor

from weldlm_kernels.attention import reference
from weldlm_kernels.attention.options import Options

__all__ = ["attention", "attention_backward"]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Returns out [T, H, Dv] and lse [H, T]."""
    out, lse = reference.attention(q, k, v, q_offsets, k_offsets, options)
    return out.contiguous(), lse.contiguous()


def attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Returns the gradients of q, k, v and the relative bias, where there is one."""
    grad_q, grad_k, grad_v = (x.new_zeros(x.shape) for x in (q, k, v))
    bias = options.relative_bias
    grad_bias = None if bias is None else bias.new_zeros(bias.shape)
    for q_span, k_span in zip(
        pairwise(q_offsets.tolist()), pairwise(k_offsets.tolist()), strict=True
    ):
        rows, keys = slice(*q_span), slice(*k_span)
        if rows.start == rows.stop or keys.start == keys.stop:
            continue  # nobody sees anything
        grads = _sequence_gradients(
            grad_out[rows], q[rows], k[keys], v[keys], options, rows.start, keys.start
        )
        grad_q[rows], grad_k[keys], grad_v[keys] = grads[:3]
        if grad_bias is not None:
            grad_bias += grads[3]
    return grad_q, grad_k, grad_v, grad_bias


def _sequence_gradients(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    options: Options,
    q_start: int,
    k_start: int,
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v and the bias, where there is one."""
    inputs = (q, k, v, options.relative_bias)
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs if x is not None]
        q, k, v, *bias = leaves
        options = options._replace(relative_bias=bias[0] if bias else None)
        out, _ = reference.attend(q, k, v, options, q_start, k_start)
        grads = torch.autograd.grad(out.to(q.dtype), leaves, grad_out, allow_unused=True)
    return tuple(
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(leaves, grads, strict=True)
    )
