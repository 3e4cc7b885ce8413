"""attention: softmax attention over packed sequences, forward and backward.

Sequences lie end to end; `q_offsets` and `k_offsets` say where each begins, so no mask and no
padding exist. Backward is recomputed from the log-sum-exp, as in FlashAttention (Dao et al. 2022,
arXiv:2205.14135), in memory linear in the number of tokens.
"""

from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.attention import reference
from weldlm_kernels.attention.checks import check_options, check_tensors
from weldlm_kernels.attention.options import Options
from weldlm_kernels.backend import choose, implementation
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
    alibi_slopes: Tensor | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    dropout_seed: Tensor | None = None,
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
        alibi_slopes: [num_heads], times the distance of key and query, taken from the scores
            (Press et al. 2022, ALiBi). Constants: they get no gradient.
        softcap: scores become softcap * tanh(scores / softcap).
        dropout_p: this share of the probabilities is dropped, the others grow by 1 / (1 - p).
        dropout_seed: one int64, which decides what is dropped. To be drawn from torch's generator,
            so that activation checkpointing draws it again.

    Returns:
        out [T, num_heads, value_dim] in the dtype of `q`, and lse [num_heads, T] in fp32, the
        log-sum-exp of the scores (no gradient). A query without a visible key gives 0 and -inf.

    Raises:
        ValueError: shapes do not fit, or an option is outside its range.
        TypeError: q, k or v has no floating-point dtype, or they have several.
    """
    check_tensors(q, k, v, q_offsets, k_offsets)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    bias = relative_bias, relative_bias_max_distance, relative_bias_is_bidirectional
    dropout = dropout_p, dropout_seed
    options = Options(is_causal, window, scale, *bias, alibi_slopes, softcap, *dropout)
    check_options(q, options)
    return _dispatch(q, k, v, (q_offsets, k_offsets), (q_max_length, k_max_length), options)


def _dispatch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: tuple[Tensor, Tensor],
    max_lengths: tuple[int, int],
    options: Options,
) -> tuple[Tensor, Tensor]:
    if options.window is not None and options.window >= max(max_lengths):
        options = options._replace(window=None)  # no two tokens are that far apart
    if options.dropout_p == 0.0:
        options = options._replace(dropout_seed=None)
    used = () if options.dropout_seed is None else ("dropout",)
    backend: str = choose("attention", q, used)
    if backend == "reference" and choose("attention", q) != "reference":
        backend = "recomputed"  # only an option is missing there
    if backend == "reference":
        return reference.attention(q, k, v, *offsets, options)
    return _attention(q, k, v, *offsets, *max_lengths, *options, backend)  # type: ignore[no-any-return]


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    *settings: Any,
) -> tuple[Tensor, Tensor]:
    *options, backend = settings
    return implementation("attention", backend).attention(  # type: ignore[no-any-return]
        q, k, v, q_offsets, k_offsets, q_max_length, k_max_length, Options(*options)
    )


def _forward_fake(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    tokens, num_heads = q.shape[:2]
    precision = torch.promote_types(q.dtype, torch.float32)
    out = q.new_empty(tokens, num_heads, v.shape[2])
    return out, q.new_empty(num_heads, tokens, dtype=precision)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, q_offsets, k_offsets, *ctx.max_lengths = inputs[:7]
    *flat, ctx.backend = inputs[7:]
    options = Options(*flat)
    tensors = options.relative_bias, options.alibi_slopes, options.dropout_seed
    ctx.options = options._replace(relative_bias=None, alibi_slopes=None, dropout_seed=None)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, *output, q_offsets, k_offsets, *tensors)


@once_differentiable
def _backward(ctx: Any, grad_out: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    # read once: activation checkpointing hands each saved tensor out a single time
    *saved, relative_bias, alibi_slopes, dropout_seed = ctx.saved_tensors
    options = ctx.options._replace(
        relative_bias=relative_bias, alibi_slopes=alibi_slopes, dropout_seed=dropout_seed
    )
    grad_q, grad_k, grad_v, grad_bias = _backward_op(
        grad_out, *saved, *ctx.max_lengths, *options, ctx.backend
    )
    has_bias = relative_bias is not None
    return grad_q, grad_k, grad_v, *(None,) * 7, grad_bias if has_bias else None, *(None,) * 7


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
    *settings: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *options, backend = settings
    lengths = q_offsets, k_offsets, q_max_length, k_max_length
    *grads, grad_bias = implementation("attention", backend).attention_backward(
        grad_out, q, k, v, out, lse, *lengths, Options(*options)
    )
    return *grads, q.new_empty(0) if grad_bias is None else grad_bias


def _backward_fake(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    bias = Options(*rest[6:-1]).relative_bias
    grad_bias = q.new_empty(0) if bias is None else bias.new_empty(bias.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), grad_bias


_SETTINGS = (
    "Tensor q_offsets, Tensor k_offsets, SymInt q_max_length, SymInt k_max_length,"
    " bool is_causal, int? window, float scale,"
    " Tensor? relative_bias, int max_distance, bool is_bidirectional,"
    " Tensor? alibi_slopes, float? softcap, float dropout_p, Tensor? dropout_seed, str backend"
)
_forward_op = register(
    f"attention(Tensor q, Tensor k, Tensor v, {_SETTINGS}) -> (Tensor out, Tensor lse)",
    _forward,
    _forward_fake,
)
_backward_op = register(
    "attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,"
    f" {_SETTINGS}) -> (Tensor grad_q, Tensor grad_k, Tensor grad_v, Tensor grad_bias)",
    _backward_implementation,
    _backward_fake,
)
_attention = differentiable(_forward_op, _forward, _setup_context, _backward)
