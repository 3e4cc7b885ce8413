"""What attention means, in plain PyTorch (Vaswani et al. 2017, arXiv:1706.03762)."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from weldlm_kernels.attention import dropout
from weldlm_kernels.attention.offsets import read_offsets
from weldlm_kernels.attention.options import Options

__all__ = ["RelativeBias", "attend", "attention", "probabilities"]


@dataclass(frozen=True, slots=True)
class RelativeBias:
    """What is added to the scores by the distance of key and query (Raffel et al. 2020, T5)."""

    table: Tensor  # [num_buckets, num_heads]
    max_distance: int
    is_bidirectional: bool

    def scores(self, distance: Tensor) -> Tensor:
        """[T, S], places of the keys less those of the queries -> [H, T, S]."""
        return self.table[self.buckets(distance)].permute(2, 0, 1)

    def buckets(self, distance: Tensor) -> Tensor:
        """Half of the buckets hold one distance each, the others spans that grow exponentially."""
        num_buckets, first = self.table.shape[0], torch.zeros_like(distance)
        if self.is_bidirectional:
            num_buckets //= 2
            first = (distance > 0).long() * num_buckets
        distance = distance.abs() if self.is_bidirectional else (-distance).clamp(min=0)
        num_exact = num_buckets // 2
        # fp32 and this order of operations decide which bucket a distance at an edge is in
        growth = torch.log(distance.float() / num_exact) / math.log(self.max_distance / num_exact)
        far = num_exact + (growth * (num_buckets - num_exact)).long().clamp(
            0, num_buckets - num_exact - 1
        )
        return first + torch.where(distance < num_exact, distance, far)


def attention(
    q: Tensor, k: Tensor, v: Tensor, q_offsets: Tensor, k_offsets: Tensor, options: Options
) -> tuple[Tensor, Tensor]:
    """out = dropout(softmax(scores)) v within each sequence; lse = log sum exp of its scores."""
    q_bounds = read_offsets("q_offsets", q_offsets, q.shape[0])
    k_bounds = read_offsets("k_offsets", k_offsets, k.shape[0])
    outs, lses = [], []
    for q_span, k_span in zip(pairwise(q_bounds), pairwise(k_bounds), strict=True):
        rows, keys = slice(*q_span), slice(*k_span)
        out, lse = attend(q[rows], k[keys], v[keys], options, rows.start, keys.start)
        outs.append(out)
        lses.append(lse)
    # rows behind the last offset belong to no sequence
    rest = q.shape[0] - q_bounds[-1]
    outs.append(q.new_zeros(rest, q.shape[1], v.shape[2]) + _nothing_of(q, k, v, options))
    lses.append(_no_lse(q, rest))
    return torch.cat(outs).to(q.dtype), torch.cat(lses, dim=1)


def attend(
    q: Tensor, k: Tensor, v: Tensor, options: Options, q_start: int, k_start: int
) -> tuple[Tensor, Tensor]:
    """One sequence: q [T, H, D], k [S, Hkv, D], v [S, Hkv, Dv] -> out [T, H, Dv], lse [H, T].

    scores = scale q k^T + bias, where query heads share key/value heads in groups (GQA). A softcap
    c makes scores x into c tanh(x / c). What a query does not see is taken from the scores; a query
    that sees no key gives out = 0 and lse = -inf. `q_start` and `k_start`, the places of the first
    tokens, decide what dropout drops.
    """
    num_queries, num_heads, _ = q.shape
    num_keys, num_kv_heads, _ = k.shape
    if num_keys == 0:
        return q.new_zeros(num_queries, num_heads, v.shape[2]), _no_lse(q, num_queries)
    # softmax in at least fp32: in 16 bits the sum over keys loses small probabilities
    precision = torch.promote_types(q.dtype, torch.float32)
    weights, lse = probabilities(q.to(precision), k.to(precision), options)
    if options.dropout_seed is not None:
        q_tokens = torch.arange(q_start, q_start + num_queries, device=q.device)
        k_tokens = torch.arange(k_start, k_start + num_keys, device=q.device)
        is_kept = dropout.kept(
            options.dropout_p, options.dropout_seed, num_heads, q_tokens, k_tokens
        )
        weights = weights * is_kept / (1.0 - options.dropout_p)
    v = v.to(precision).repeat_interleave(num_heads // num_kv_heads, dim=1)
    return torch.einsum("h t s, s h d -> t h d", weights, v), lse


def probabilities(q: Tensor, k: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """One sequence: q [T, H, D], k [S, Hkv, D] -> softmax of the scores [H, T, S], lse [H, T].

    What a query does not see has probability 0.
    """
    num_queries, num_keys = q.shape[0], k.shape[0]
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    distance = _distance(num_queries, num_keys, q.device)
    scores = torch.einsum("t h d, s h d -> h t s", q, k) * options.scale
    scores = _hide(_cap(_add_biases(scores, distance, options), options), distance, options)
    lse = torch.logsumexp(scores, dim=-1)
    # a row without a visible key has lse = -inf, which would give exp(nan)
    shift = torch.where(torch.isinf(lse), torch.zeros_like(lse), lse)
    return torch.exp(scores - shift.unsqueeze(-1)), lse


def _add_biases(scores: Tensor, distance: Tensor, options: Options) -> Tensor:
    if options.relative_bias is not None:
        bias = RelativeBias(options.relative_bias, options.max_distance, options.is_bidirectional)
        scores = scores + bias.scores(distance)
    if options.alibi_slopes is not None:
        scores = scores - options.alibi_slopes.view(-1, 1, 1) * distance.abs()
    return scores


def _cap(scores: Tensor, options: Options) -> Tensor:
    if options.softcap is None:
        return scores
    return options.softcap * torch.tanh(scores / options.softcap)


def _hide(scores: Tensor, distance: Tensor, options: Options) -> Tensor:
    """Takes away the keys behind a query, and those that are `window` places away or more."""
    if options.is_causal:
        scores = scores.masked_fill(distance > 0, float("-inf"))
    if options.window is not None:
        scores = scores.masked_fill(distance.abs() >= options.window, float("-inf"))
    return scores


def _distance(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """[T, S], place of the key less that of the query, the last of both at the same place."""
    query = torch.arange(num_queries, device=device).unsqueeze(1) + (num_keys - num_queries)
    return torch.arange(num_keys, device=device) - query


def _nothing_of(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    """A zero through which every input gets a gradient, of zeros, where there is no sequence."""
    table = options.relative_bias
    zero = q[:0].sum() + k[:0].sum() + v[:0].sum()
    return zero if table is None else zero + table[:0].sum()


def _no_lse(q: Tensor, num_queries: int) -> Tensor:
    precision = torch.promote_types(q.dtype, torch.float32)
    return q.new_full((q.shape[1], num_queries), float("-inf"), dtype=precision)
