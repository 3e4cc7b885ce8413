"""attention: softmax attention over packed sequences, forward and backward.

Sequences lie end to end; `q_offsets` and `k_offsets` say where each begins, so no mask and no
padding exist. Backward is recomputed from the log-sum-exp, as in FlashAttention (Dao et al. 2022,
arXiv:2205.14135), in memory linear in the number of tokens.
"""

from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.attention import recomputed, reference
from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.dtypes import require_floating_point
from weldlm_kernels.registration import differentiable, once_differentiable, register

__all__ = ["attention"]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    is_causal: bool,
    window: int | None = None,
    scale: float | None = None,
    relative_bias: Tensor | None = None,
    relative_bias_max_distance: int = 128,
    relative_bias_is_bidirectional: bool = False,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attends within each sequence of a packed batch.

    Args:
        q: [T, num_heads, head_dim], fp32, fp16 or bf16 (fp64 takes the reference).
        k: [S, num_kv_heads, head_dim]; num_heads is a multiple of num_kv_heads (GQA).
        v: [S, num_kv_heads, value_dim].
        q_offsets: [B + 1] int32, cumulative query lengths; rows behind the last one give zeros.
        k_offsets: [B + 1] int32, cumulative key lengths.
        q_max_length: length of the longest query sequence, on the host (no synchronization).
        k_max_length: the same for keys.
        is_causal: a query sees no later key; the last query is aligned with the last key.
        window: a query sees no key that is this many places or more before it, nor, without
            `is_causal`, behind it.
        scale: factor of the scores, 1 / sqrt(head_dim) where None.
        relative_bias: [num_buckets, num_heads], added to the scores by the distance of key and
            query; small distances have a bucket each, larger ones share (T5).
        relative_bias_max_distance: from here on all distances share the last bucket.
        relative_bias_is_bidirectional: half of the buckets are for keys behind the query.
        softcap: scores become softcap * tanh(scores / softcap).

    Returns:
        out [T, num_heads, value_dim] in the dtype of `q`, and lse [num_heads, T] in fp32, the
        log-sum-exp of the scores (no gradient). A query without a visible key gives 0 and -inf.

    Raises:
        ValueError: shapes do not fit, or `window` or `softcap` is not above 0.
        TypeError: q, k or v has no floating-point dtype, or they have several.
    """
    _check(q, k, v, q_offsets, k_offsets)
    _check_options(q, window, softcap, relative_bias, relative_bias_is_bidirectional)
    if window is not None and window >= max(q_max_length, k_max_length):
        window = None  # no two tokens are that far apart
    scale = q.shape[2] ** -0.5 if scale is None else scale
    bias = relative_bias, relative_bias_max_distance, relative_bias_is_bidirectional
    lengths = q_offsets, k_offsets, q_max_length, k_max_length
    return _dispatch(q, k, v, *lengths, is_causal, window, scale, softcap, *bias)


def _dispatch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    is_causal: bool,
    window: int | None,
    scale: float,
    softcap: float | None,
    relative_bias: Tensor | None,
    max_distance: int,
    is_bidirectional: bool,
) -> tuple[Tensor, Tensor]:
    options = {"window": window, "softcap": softcap, "relative_bias": relative_bias}
    used = tuple(name for name, value in options.items() if value is not None)
    backend = choose("attention", q, used)
    if backend != "reference":
        return _attention(  # type: ignore[no-any-return]
            q,
            k,
            v,
            q_offsets,
            k_offsets,
            q_max_length,
            k_max_length,
            is_causal,
            window,
            scale,
            backend,
        )
    if choose("attention", q) != "reference":
        # only an option is missing there
        return recomputed.attention(  # type: ignore[no-any-return]
            q,
            k,
            v,
            relative_bias,
            q_offsets,
            k_offsets,
            is_causal,
            window,
            scale,
            softcap,
            max_distance,
            is_bidirectional,
        )
    table = reference.relative_bias(relative_bias, max_distance, is_bidirectional)
    return reference.attention(
        q, k, v, q_offsets, k_offsets, is_causal, window, scale, softcap, table
    )


def _check(q: Tensor, k: Tensor, v: Tensor, q_offsets: Tensor, k_offsets: Tensor) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        require_floating_point(name, x)
        if x.dtype != q.dtype:
            raise TypeError(f"{name} is {x.dtype} and q {q.dtype}; expected one dtype; convert one")
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.dim() == k.dim() == v.dim() == 3:
        raise ValueError(f"{shapes}; expected three dimensions [tokens, heads, head_dim] each")
    if q.shape[2] != k.shape[2] or k.shape[:2] != v.shape[:2]:
        raise ValueError(f"{shapes}; expected one head_dim for q and k, one length for k and v")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"{shapes}; expected num_heads to be a multiple of num_kv_heads")
    if q_offsets.shape != k_offsets.shape or q_offsets.dim() != 1:
        raise ValueError(
            f"q_offsets {tuple(q_offsets.shape)} and k_offsets {tuple(k_offsets.shape)}; "
            "expected two equal shapes [num_sequences + 1]"
        )


def _check_options(
    q: Tensor,
    window: int | None,
    softcap: float | None,
    relative_bias: Tensor | None,
    is_bidirectional: bool,
) -> None:
    for name, value in (("window", window), ("softcap", softcap)):
        if value is not None and value <= 0:
            raise ValueError(f"{name} is {value}; expected a value above 0, or None for none")
    if relative_bias is None:
        return
    if relative_bias.dim() != 2 or relative_bias.shape[1] != q.shape[1]:
        raise ValueError(
            f"relative_bias {tuple(relative_bias.shape)} and q {tuple(q.shape)}; expected "
            "[num_buckets, num_heads] with the heads of q"
        )
    least = 4 if is_bidirectional else 2
    if relative_bias.shape[0] < least:
        raise ValueError(f"relative_bias has {relative_bias.shape[0]} buckets; expected {least}")


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    is_causal: bool,
    window: int | None,
    scale: float,
    backend: Any,
) -> tuple[Tensor, Tensor]:
    return implementation("attention", backend).attention(  # type: ignore[no-any-return]
        q, k, v, q_offsets, k_offsets, q_max_length, k_max_length, is_causal, window, scale
    )


def _forward_fake(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    tokens, num_heads = q.shape[:2]
    out = q.new_empty(tokens, num_heads, v.shape[2])
    return out, q.new_empty(num_heads, tokens, dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, q_offsets, k_offsets, *ctx.settings = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, q_offsets, k_offsets)


@once_differentiable
def _backward(ctx: Any, grad_out: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_q, grad_k, grad_v = _backward_op(grad_out, *ctx.saved_tensors, *ctx.settings)
    return grad_q, grad_k, grad_v, *(None,) * 8


def _backward_implementation(
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
    is_causal: bool,
    window: int | None,
    scale: float,
    backend: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    return implementation("attention", backend).attention_backward(  # type: ignore[no-any-return]
        grad_out,
        q,
        k,
        v,
        out,
        lse,
        q_offsets,
        k_offsets,
        q_max_length,
        k_max_length,
        is_causal,
        window,
        scale,
    )


def _backward_fake(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


_forward_op = register(
    "attention(Tensor q, Tensor k, Tensor v, Tensor q_offsets, Tensor k_offsets,"
    " SymInt q_max_length, SymInt k_max_length,"
    " bool is_causal, int? window, float scale, str backend)"
    " -> (Tensor out, Tensor lse)",
    _forward,
    _forward_fake,
)
_backward_op = register(
    "attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,"
    " Tensor q_offsets, Tensor k_offsets, SymInt q_max_length, SymInt k_max_length,"
    " bool is_causal, int? window, float scale, str backend)"
    " -> (Tensor grad_q, Tensor grad_k, Tensor grad_v)",
    _backward_implementation,
    _backward_fake,
)
_attention = differentiable(_forward_op, _forward, _setup_context, _backward)
