"""What paged_attention means, in plain PyTorch (Kwon et al. 2023, arXiv:2309.06180)."""

from itertools import pairwise

import torch
from torch import Tensor

from weldlm_kernels.attention.offsets import read_offsets
from weldlm_kernels.attention.reference import RelativeBias

__all__ = ["paged_attention", "read_pages"]


def paged_attention(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    lengths: Tensor,
    q_offsets: Tensor,
    q_max_length: int,
    is_causal: bool,
    window: int | None,
    scale: float,
    softcap: float | None,
    alibi_slopes: Tensor | None,
    relative_bias: Tensor | None,
    relative_bias_max_distance: int,
    relative_bias_is_bidirectional: bool,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
    split_length: int | None,
) -> Tensor:
    """out = softmax(cap(scale q k^T + bias)) v, k and v being the pages of a sequence end to end.

    bias is the relative one less slope |distance| (ALiBi, Press et al. 2022, arXiv:2108.12409);
    cap is softcap * tanh(. / softcap). A query that sees no key gives 0.
    """
    bounds = read_offsets("q_offsets", q_offsets, q.shape[0])
    precision = torch.promote_types(q.dtype, torch.float32)
    table = None
    if relative_bias is not None:
        table = RelativeBias(
            relative_bias, relative_bias_max_distance, relative_bias_is_bidirectional
        )
    out = torch.zeros_like(q, memory_format=torch.contiguous_format)
    for index, ((start, end), length) in enumerate(
        zip(pairwise(bounds), lengths.tolist(), strict=True)
    ):
        if start == end or length == 0:
            continue
        k = read_pages(key_cache, key_scale, block_table[index], length, precision)
        v = read_pages(value_cache, value_scale, block_table[index], length, precision)
        query = torch.arange(end - start, device=q.device).unsqueeze(1) + (length - end + start)
        distance = torch.arange(length, device=q.device) - query  # [T, S]

        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = torch.einsum("t h d, s h d -> h t s", q[start:end].to(precision), k) * scale
        if table is not None:
            scores = scores + table.scores(distance)
        if alibi_slopes is not None:
            scores = scores - alibi_slopes[:, None, None] * distance.abs()
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores.masked_fill(_hidden(distance, is_causal, window), float("-inf"))
        # the softmax of a row without a visible key is nan
        probabilities = scores.softmax(-1).nan_to_num(0.0)
        out[start:end] = torch.einsum("h t s, s h d -> t h d", probabilities, v).to(q.dtype)
    return out


def read_pages(
    cache: Tensor, cache_scale: Tensor | None, pages: Tensor, length: int, dtype: torch.dtype
) -> Tensor:
    """The first `length` tokens of a sequence [length, Hkv, D], dequantized; `pages` is its row."""
    block_size = cache.shape[1]
    used = pages[: -(-length // block_size)].long()
    if used.shape[0] * block_size < length:
        raise ValueError(
            f"a sequence has length {length}, but its {used.shape[0]} blocks hold "
            f"{used.shape[0] * block_size} tokens; expected more entries in block_table"
        )
    rows = cache[used].flatten(0, 1)[:length].to(dtype)
    if cache_scale is None:
        return rows
    return rows * cache_scale[used].flatten(0, 1)[:length].to(dtype).unsqueeze(-1)


def _hidden(distance: Tensor, is_causal: bool, window: int | None) -> Tensor:
    """[T, S], true where the query does not see the key."""
    hidden = distance > 0 if is_causal else torch.zeros_like(distance, dtype=torch.bool)
    return hidden if window is None else hidden | (distance.abs() >= window)
