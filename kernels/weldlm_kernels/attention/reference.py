"""What attention means, in plain PyTorch (Vaswani et al. 2017, arXiv:1706.03762)."""

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
    scale: float,
) -> tuple[Tensor, Tensor]:
    """out = softmax(scale q k^T) v within each sequence; lse = log sum exp(scale q k^T).

    Query heads share key/value heads in groups (GQA). With `is_causal` the last query of a sequence
    sees its last key, the one before it one key less, and so on. A query that sees no key gives
    out = 0 and lse = -inf.
    """
    q_bounds, k_bounds = q_offsets.tolist(), k_offsets.tolist()
    parts = [
        _attend(q[q_start:q_end], k[k_start:k_end], v[k_start:k_end], is_causal, scale)
        for q_start, q_end, k_start, k_end in zip(
            q_bounds, q_bounds[1:], k_bounds, k_bounds[1:], strict=False
        )
    ]
    # rows behind the last offset belong to no sequence
    rest = q.shape[0] - q_bounds[-1]
    parts.append((q.new_zeros(rest, q.shape[1], v.shape[2]), _no_lse(q, rest)))
    outs, lses = zip(*parts, strict=True)
    return torch.cat(outs).to(q.dtype), torch.cat(lses, dim=1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, scale: float
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
    if is_causal:
        scores = scores.masked_fill(_future(num_queries, num_keys, q.device), float("-inf"))
    lse = torch.logsumexp(scores, dim=-1)  # [H, T]
    # a row without a visible key has lse = -inf, which would give exp(nan)
    shift = torch.where(torch.isinf(lse), torch.zeros_like(lse), lse)
    probabilities = torch.exp(scores - shift.unsqueeze(-1))
    return torch.einsum("h t s, s h d -> t h d", probabilities, v), lse


def _future(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """[T, S], true where the key lies behind the query, both ends aligned."""
    query = torch.arange(num_queries, device=device).unsqueeze(1) + (num_keys - num_queries)
    return torch.arange(num_keys, device=device) > query


def _no_lse(q: Tensor, num_queries: int) -> Tensor:
    precision = torch.promote_types(q.dtype, torch.float32)
    return q.new_full((q.shape[1], num_queries), float("-inf"), dtype=precision)
