"""What attention means, in plain PyTorch (Vaswani et al. 2017, arXiv:1706.03762)."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from weldlm_kernels.attention.offsets import read_offsets

__all__ = ["RelativeBias", "attention", "relative_bias"]


@dataclass(frozen=True, slots=True)
class RelativeBias:
    """What is added to the scores by the distance of key and query (Raffel et al. 2020, T5)."""

    table: Tensor  # [num_buckets, num_heads]
    max_distance: int
    is_bidirectional: bool

    def scores(self, distance: Tensor) -> Tensor:
        """[T, S], places of the keys less those of the queries -> [H, T, S]."""
        return self.table[self._buckets(distance)].permute(2, 0, 1)

    def _buckets(self, distance: Tensor) -> Tensor:
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


def relative_bias(
    table: Tensor | None, max_distance: int, is_bidirectional: bool
) -> RelativeBias | None:
    return None if table is None else RelativeBias(table, max_distance, is_bidirectional)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    is_causal: bool,
    window: int | None,
    scale: float,
    softcap: float | None,
    bias: RelativeBias | None = None,
) -> tuple[Tensor, Tensor]:
    """out = softmax(scale q k^T + bias) v within each sequence; lse = log sum exp.

    Query heads share key/value heads in groups (GQA). With `is_causal` the last query of a sequence
    sees its last key, the one before it one key less, and so on. With `window` a query sees only
    keys less than `window` places away. `softcap` c makes scores x into c tanh(x / c). A query that
    sees no key gives out = 0 and lse = -inf.
    """
    q_bounds = read_offsets("q_offsets", q_offsets, q.shape[0])
    k_bounds = read_offsets("k_offsets", k_offsets, k.shape[0])
    outs, lses = [], []
    for (q_start, q_end), (k_start, k_end) in zip(
        pairwise(q_bounds), pairwise(k_bounds), strict=True
    ):
        distance = _distance(q_end - q_start, k_end - k_start, q.device)
        out, lse = _attend(
            q[q_start:q_end],
            k[k_start:k_end],
            v[k_start:k_end],
            None if bias is None else bias.scores(distance),
            _hidden(distance, is_causal, window),
            scale,
            softcap,
        )
        outs.append(out)
        lses.append(lse)
    # rows behind the last offset belong to no sequence
    rest = q.shape[0] - q_bounds[-1]
    outs.append(q.new_zeros(rest, q.shape[1], v.shape[2]))
    lses.append(_no_lse(q, rest))
    return torch.cat(outs).to(q.dtype), torch.cat(lses, dim=1)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    hidden: Tensor | None,
    scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """One sequence: q [T, H, D], k [S, Hkv, D], v [S, Hkv, Dv] -> out [T, H, Dv], lse [H, T]."""
    num_queries, num_heads, _ = q.shape
    num_keys, num_kv_heads, _ = k.shape
    if num_keys == 0:
        return q.new_zeros(num_queries, num_heads, v.shape[2]), _no_lse(q, num_queries)
    group = num_heads // num_kv_heads
    # softmax in at least fp32: in 16 bits the sum over keys loses small probabilities
    precision = torch.promote_types(q.dtype, torch.float32)
    q, k, v = q.to(precision), k.to(precision), v.to(precision)
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = torch.einsum("t h d, s h d -> h t s", q, k) * scale
    if bias is not None:
        scores = scores + bias
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    lse = torch.logsumexp(scores, dim=-1)  # [H, T]
    # a row without a visible key has lse = -inf, which would give exp(nan)
    shift = torch.where(torch.isinf(lse), torch.zeros_like(lse), lse)
    probabilities = torch.exp(scores - shift.unsqueeze(-1))
    return torch.einsum("h t s, s h d -> t h d", probabilities, v), lse


def _distance(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """[T, S], place of the key less that of the query, the last of both at the same place."""
    query = torch.arange(num_queries, device=device).unsqueeze(1) + (num_keys - num_queries)
    return torch.arange(num_keys, device=device) - query


def _hidden(distance: Tensor, is_causal: bool, window: int | None) -> Tensor | None:
    """[T, S], true where the query does not see the key; None where it sees all."""
    if not is_causal and window is None:
        return None
    hidden = distance > 0 if is_causal else torch.zeros_like(distance, dtype=torch.bool)
    return hidden if window is None else hidden | (distance.abs() >= window)


def _no_lse(q: Tensor, num_queries: int) -> Tensor:
    precision = torch.promote_types(q.dtype, torch.float32)
    return q.new_full((q.shape[1], num_queries), float("-inf"), dtype=precision)
