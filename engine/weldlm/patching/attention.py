"""Attention of transformers' modules over packed sequences.

Each `*_attention` is the forward of one layout of projections. It computes what the module's own
forward does, and leaves to that every call that is not packed: with a cache, with a mask of its
own, for attention weights.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from weldlm.patching.layout import Layout, Packing
from weldlm_kernels import attention, rotary
from weldlm_kernels.attention.reference import RelativeBias

__all__ = [
    "bart_attention",
    "bert_attention",
    "gpt2_attention",
    "llama_attention",
    "mistral_attention",
    "modernbert_attention",
    "qwen_attention",
    "t5_attention",
]


def gpt2_attention(
    module: Any, hidden_states: Tensor, *args: Any, packing: Packing | None = None, **kwargs: Any
) -> Any:
    """One projection for q, k and v."""
    if packing is None:
        return type(module).forward(module, hidden_states, *args, **kwargs)
    q, k, v = (
        _heads(part, module.head_dim)
        for part in module.c_attn(hidden_states).split(module.split_size, dim=-1)
    )
    out = _attend(
        module,
        (q, k, v),
        (packing.own, packing.own),
        is_causal=True,
        dropout_p=module.attn_dropout.p,
    )
    return module.resid_dropout(module.c_proj(out)), None


def bert_attention(
    module: Any, hidden_states: Tensor, *args: Any, packing: Packing | None = None, **kwargs: Any
) -> Any:
    """BERT and RoBERTa; the output's projection is another module's."""
    if packing is None:
        return type(module).forward(module, hidden_states, *args, **kwargs)
    heads = tuple(
        _heads(project(hidden_states), module.attention_head_size)
        for project in (module.query, module.key, module.value)
    )
    layouts = packing.own, packing.own
    out = _attend(module, heads, layouts, is_causal=module.is_causal, dropout_p=module.dropout.p)
    return out, None


def llama_attention(module: Any, *args: Any, **kwargs: Any) -> Any:
    """Rotary positions, shared key/value heads."""
    return _rotary_attention(module, None, *args, **kwargs)


def mistral_attention(module: Any, *args: Any, **kwargs: Any) -> Any:
    """As Llama's, in a window that all layers have or none."""
    return _rotary_attention(module, module.config.sliding_window, *args, **kwargs)


def qwen_attention(module: Any, *args: Any, **kwargs: Any) -> Any:
    """As Llama's, in a window that some layers have."""
    return _rotary_attention(module, module.sliding_window, *args, **kwargs)


def _rotary_attention(
    module: Any,
    window: int | None,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    *args: Any,
    packing: Packing | None = None,
    **kwargs: Any,
) -> Any:
    if packing is None or position_embeddings is None:
        return type(module).forward(module, hidden_states, position_embeddings, *args, **kwargs)
    q, k, v = (
        _heads(project(hidden_states), module.head_dim)
        for project in (module.q_proj, module.k_proj, module.v_proj)
    )
    # Qwen3 has norms of heads
    q = module.q_norm(q) if "q_norm" in module._modules else q
    k = module.k_norm(k) if "k_norm" in module._modules else k
    heads = _rotate(q, position_embeddings), _rotate(k, position_embeddings), v
    out = _attend(
        module,
        heads,
        (packing.own, packing.own),
        is_causal=True,
        window=window,
        dropout_p=module.attention_dropout,
    )
    return module.o_proj(out), None


def modernbert_attention(
    module: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    *args: Any,
    packing: Packing | None = None,
    **kwargs: Any,
) -> Any:
    """One projection for q, k and v, rotary positions, a window in some layers."""
    if packing is None or position_embeddings is None:
        return type(module).forward(module, hidden_states, position_embeddings, *args, **kwargs)
    q, k, v = (
        _heads(part, module.head_dim) for part in module.Wqkv(hidden_states).chunk(3, dim=-1)
    )
    out = _attend(
        module,
        (_rotate(q, position_embeddings), _rotate(k, position_embeddings), v),
        (packing.own, packing.own),
        is_causal=False,
        window=module.sliding_window,
        scale=module.head_dim**-0.5,
        dropout_p=module.attention_dropout,
    )
    return module.out_drop(module.Wo(out)), None


def bart_attention(
    module: Any,
    hidden_states: Tensor,
    key_value_states: Tensor | None = None,
    *args: Any,
    packing: Packing | None = None,
    **kwargs: Any,
) -> Any:
    """Attention of a sequence to itself, or to its encoder's where `key_value_states` is given."""
    if packing is None:
        return type(module).forward(module, hidden_states, key_value_states, *args, **kwargs)
    source, layouts = _source(hidden_states, key_value_states, packing)
    heads = (
        _heads(module.q_proj(hidden_states), module.head_dim),
        _heads(module.k_proj(source), module.head_dim),
        _heads(module.v_proj(source), module.head_dim),
    )
    out = _attend(module, heads, layouts, is_causal=module.is_causal, dropout_p=module.dropout)
    return module.out_proj(out), None


def t5_attention(
    module: Any,
    hidden_states: Tensor,
    mask: Tensor | None = None,
    key_value_states: Tensor | None = None,
    position_bias: Tensor | None = None,
    *args: Any,
    packing: Packing | None = None,
    **kwargs: Any,
) -> Any:
    """Biases by distance. The first layer hands its table [num_buckets, num_heads] to the others,
    in the place of the biases [1, num_heads, T, S] that the module computes from it."""
    if packing is None:
        return type(module).forward(
            module, hidden_states, mask, key_value_states, position_bias, *args, **kwargs
        )
    source, layouts = _source(hidden_states, key_value_states, packing)
    heads = (
        _heads(module.q(hidden_states), module.key_value_proj_dim),
        _heads(module.k(source), module.key_value_proj_dim),
        _heads(module.v(source), module.key_value_proj_dim),
    )
    if module.has_relative_attention_bias:
        # a copy: reentrant checkpointing would make a weight that it returns its own result
        position_bias = module.relative_attention_bias.weight.clone()
    out = _attend(
        module,
        heads,
        layouts,
        is_causal=module.is_causal,
        dropout_p=module.dropout,
        bias=position_bias,
        max_distance=module.relative_attention_max_distance,
    )
    return module.o(out), position_bias, None


def _source(
    hidden_states: Tensor, key_value_states: Tensor | None, packing: Packing
) -> tuple[Tensor, tuple[Layout, Layout]]:
    """What keys and values are made of, and the layouts of queries and keys."""
    if key_value_states is None:
        return hidden_states, (packing.own, packing.own)
    assert packing.memory is not None
    return key_value_states, (packing.own, packing.memory)


def _heads(x: Tensor, head_dim: int) -> Tensor:
    heads: Tensor = x.unflatten(-1, (-1, head_dim))  # [B, S, H, D]
    return heads


def _rotate(x: Tensor, position_embeddings: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates [B, S, H, D] by angles [B or 1, S, D], whose halves are equal."""
    batch_size, length = x.shape[:2]
    half = position_embeddings[0].shape[-1] // 2
    # the kernel reads fp32
    cos, sin = (part.flatten(0, 1)[:, :half].float() for part in position_embeddings)
    positions = torch.arange(cos.shape[0], device=x.device)
    if cos.shape[0] != batch_size * length:
        positions = positions.repeat(batch_size)
    rotated: Tensor = rotary(x.flatten(0, 1), cos, sin, positions).unflatten(0, x.shape[:2])
    return rotated


def _attend(
    module: Any,
    heads: tuple[Tensor, ...],
    layouts: tuple[Layout, Layout],
    *,
    is_causal: bool,
    dropout_p: float,
    window: int | None = None,
    scale: float | None = None,
    bias: Tensor | None = None,
    max_distance: int = 0,
) -> Tensor:
    """q, k, v [B, S, H, D] -> [B, S, H * D]."""
    shape = heads[0].shape[:2]
    q, k, v = (_in_autocast_dtype(x.flatten(0, 1)) for x in heads)
    options: dict[str, Any] = {
        "is_causal": is_causal,
        "window": window,
        "scale": module.scaling if scale is None else scale,
        "relative_bias": bias,
        "relative_bias_max_distance": max_distance,
        "relative_bias_is_bidirectional": not is_causal,
    }
    if module.training and dropout_p > 0.0:
        out = _attend_with_dropout(q, k, v, layouts, dropout_p, **options)
    else:
        out, _ = attention(
            q,
            k,
            v,
            q_offsets=layouts[0].offsets,
            k_offsets=layouts[1].offsets,
            q_max_length=layouts[0].max_length,
            k_max_length=layouts[1].max_length,
            **options,
        )
    joined: Tensor = out.flatten(1).unflatten(0, shape)
    return joined


def _in_autocast_dtype(x: Tensor) -> Tensor:
    """What PyTorch's own attention would make of `x`: our operations do not autocast."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def _attend_with_dropout(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layouts: tuple[Layout, Layout],
    dropout_p: float,
    *,
    scale: float,
    **options: Any,
) -> Tensor:
    """PyTorch's attention of one sequence after the other: the kernel drops nothing."""
    out = [q.new_zeros(0, q.shape[1], v.shape[2])]
    for rows, keys in zip(*map(_slices, layouts), strict=True):
        if keys.stop == keys.start:
            out.append(q.new_zeros(rows.stop - rows.start, q.shape[1], v.shape[2]))
            continue
        one = functional.scaled_dot_product_attention(
            q[rows].transpose(0, 1).unsqueeze(0),
            k[keys].transpose(0, 1).unsqueeze(0),
            v[keys].transpose(0, 1).unsqueeze(0),
            attn_mask=_mask(q[rows], k[keys], **options),
            dropout_p=dropout_p,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        out.append(one.squeeze(0).transpose(0, 1))
    return torch.cat(out)


def _slices(layout: Layout) -> Iterator[slice]:
    ends = [0]
    for length in layout.lengths:
        ends.append(ends[-1] + length)
    return (slice(start, end) for start, end in pairwise(ends))


def _mask(
    q: Tensor,
    k: Tensor,
    *,
    is_causal: bool,
    window: int | None,
    relative_bias: Tensor | None,
    relative_bias_max_distance: int,
    relative_bias_is_bidirectional: bool,
) -> Tensor | None:
    """What is added to the scores [T, S] or [H, T, S] of a sequence; None for nothing."""
    if not is_causal and window is None and relative_bias is None:
        return None
    query, key = (torch.arange(x.shape[0], device=q.device) for x in (q, k))
    distance = key - query.unsqueeze(1)
    hidden = distance > 0 if is_causal else torch.zeros_like(distance, dtype=torch.bool)
    if window is not None:
        hidden = hidden | (distance.abs() >= window)
    mask = torch.zeros_like(distance, dtype=q.dtype).masked_fill(hidden, float("-inf"))
    if relative_bias is None:
        return mask
    table = RelativeBias(relative_bias, relative_bias_max_distance, relative_bias_is_bidirectional)
    return mask + table.scores(distance).to(q.dtype)
