"""What attention means, in plain PyTorch (Vaswani et al. 2017, arXiv:1706.03762)."""

from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["attention"]


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
) -> tuple[Tensor, Tensor]:
    """out = softmax(scale q k^T) v within each sequence; lse = log sum exp(scale q k^T).

    Query heads share key/value heads in groups (GQA). With `is_causal` the last query of a sequence
    sees its last key, the one before it one key less, and so on. With `window` a query sees only
    keys less than `window` places away. `softcap` c makes scores x into c tanh(x / c). A query that
    sees no key gives out = 0 and lse = -inf.
    """
    q_bounds, k_bounds = q_offsets.tolist(), k_offsets.tolist()
    outs, lses = [], []
    for (q_start, q_end), (k_start, k_end) in zip(
        pairwise(q_bounds), pairwise(k_bounds), strict=True
    ):
        hidden = _hidden(q_end - q_start, k_end - k_start, is_causal, window, q.device)
        out, lse = _attend(
            q[q_start:q_end], k[k_start:k_end], v[k_start:k_end], hidden, scale, softcap
        )
        outs.append(out)
        lses.append(lse)
    # rows behind the last offset belong to no sequence
    rest = q.shape[0] - q_bounds[-1]
    outs.append(q.new_zeros(rest, q.shape[1], v.shape[2]))
    lses.append(_no_lse(q, rest))
    return torch.cat(outs).to(q.dtype), torch.cat(lses, dim=1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, scale: float, softcap: float | None
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
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    lse = torch.logsumexp(scores, dim=-1)  # [H, T]
    # a row without a visible key has lse = -inf, which would give exp(nan)
    shift = torch.where(torch.isinf(lse), torch.zeros_like(lse), lse)
    probabilities = torch.exp(scores - shift.unsqueeze(-1))
    return torch.einsum("h t s, s h d -> t h d", probabilities, v), lse


def _hidden(
    num_queries: int, num_keys: int, is_causal: bool, window: int | None, device: torch.device
) -> Tensor | None:
    """[T, S], true where the query does not see the key; None where it sees all."""
    if not is_causal and window is None:
        return None
    # both ends are aligned; positive where the key lies behind the query
    distance = _distance(num_queries, num_keys, device)
    hidden = distance > 0 if is_causal else torch.zeros_like(distance, dtype=torch.bool)
    return hidden if window is None else hidden | (distance.abs() >= window)


def _distance(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """[T, S], place of the key less that of the query, the last of both at the same place."""
    query = torch.arange(num_queries, device=device).unsqueeze(1) + (num_keys - num_queries)
    return torch.arange(num_keys, device=device) - query


def _no_lse(q: Tensor, num_queries: int) -> Tensor:
    precision = torch.promote_types(q.dtype, torch.float32)
    return q.new_full((q.shape[1], num_queries), float("-inf"), dtype=precision)
