"""torch.nn.functional's names, signatures and results, by a fused operation where one applies.

A call whose arguments a fused operation does not take, or whose tensors no compiled backend takes,
goes to PyTorch: nothing that works there fails here but second derivatives, for which
`use_backend("reference")` gives all calls to PyTorch. `cross_entropy`, `gelu`, `silu`, `softmax`
and `embedding` are PyTorch's own, as fast as they get without their neighbors; they stand here so
that this module can replace `torch.nn.functional` in a model's imports.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import cross_entropy, embedding, gelu, silu, softmax

from weldlm_kernels.attention import attention
from weldlm_kernels.backend import choose
from weldlm_kernels.layer_norm import layer_norm as fused_layer_norm
from weldlm_kernels.linear_cross_entropy import (
    linear_cross_entropy as fused_linear_cross_entropy,
)
from weldlm_kernels.rms_norm import rms_norm as fused_rms_norm

__all__ = [
    "cross_entropy",
    "embedding",
    "gelu",
    "layer_norm",
    "linear_cross_entropy",
    "rms_norm",
    "scaled_dot_product_attention",
    "silu",
    "softmax",
]

_MOST_HEAD_DIM = 256  # of the attention kernels


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """As torch.nn.functional.layer_norm; fused over one dimension."""
    if eps >= 0 and _takes_rows("layer_norm", input, normalized_shape, weight, bias):
        return fused_layer_norm(input, weight, bias, eps=eps)
    return functional.layer_norm(input, list(normalized_shape), weight, bias, eps)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """As torch.nn.functional.rms_norm; fused over one dimension."""
    if (eps is None or eps >= 0) and _takes_rows("rms_norm", input, normalized_shape, weight, None):
        eps = torch.finfo(input.dtype).eps if eps is None else eps
        return fused_rms_norm(input, weight, eps=eps)
    return functional.rms_norm(input, list(normalized_shape), weight, eps)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As torch.nn.functional.scaled_dot_product_attention; fused without mask and dropout."""
    if attn_mask is not None or dropout_p != 0.0 or not _takes_heads(query, key, value, enable_gqa):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    batch, _, q_length, _ = query.shape
    k_length = key.shape[2]
    if is_causal and q_length != k_length:
        # PyTorch aligns the first query with the first key, the fused operation the last ones
        return functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=enable_gqa
        )
    packed, _ = attention(
        query.transpose(1, 2).flatten(0, 1),
        key.transpose(1, 2).flatten(0, 1),
        value.transpose(1, 2).flatten(0, 1),
        q_offsets=_equal_offsets(batch, q_length, query.device),
        k_offsets=_equal_offsets(batch, k_length, query.device),
        q_max_length=q_length,
        k_max_length=k_length,
        is_causal=is_causal,
        scale=scale,
    )
    heads: Tensor = packed.unflatten(0, (batch, q_length)).transpose(1, 2)  # [B, H, T, Dv]
    return heads


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """As torch.nn.functional.linear_cross_entropy (torch 2.13); works with older ones too.

    Fused, without logits in memory, for a sum or mean over class labels of rows.

    Args:
        input: [..., hidden_size].
        linear_weight: [num_classes, hidden_size].
        target: [...] int64 labels, or [..., num_classes] probabilities.
        linear_bias: [num_classes] or None.
        weight: [num_classes], factor of each class, or None.
        reduction: 'none', 'mean' or 'sum'.
        ignore_index: the target of rows that do not count, -100 where None.
        label_smoothing: in [0, 1].
        options: how PyTorch is to compute it; with any, PyTorch does.
    """
    ignored = -100 if ignore_index is None else ignore_index
    is_plain = weight is None and options is None and 0 <= label_smoothing <= 1
    is_summed = reduction in ("mean", "sum") and target.dtype == torch.int64
    if is_plain and is_summed and _takes_projection(input, linear_weight, linear_bias, target):
        loss_sum, count = fused_linear_cross_entropy(
            input,
            linear_weight,
            target,
            bias=linear_bias,
            ignore_index=ignored,
            label_smoothing=label_smoothing,
        )
        # PyTorch returns the dtype of the logits
        return (loss_sum if reduction == "sum" else loss_sum / count).to(input.dtype)
    settings: dict[str, Any] = {
        "weight": weight,
        "reduction": reduction,
        "ignore_index": ignored,
        "label_smoothing": label_smoothing,
    }
    if options is None and linear_weight.dim() == 2:
        # the same without the function that torch has from 2.13 on
        logits = functional.linear(input, linear_weight, linear_bias)
        return functional.cross_entropy(logits, target, **settings)
    settings |= {"linear_bias": linear_bias, "ignore_index": ignore_index, "options": options}
    return functional.linear_cross_entropy(  # type: ignore[no-any-return, attr-defined, unused-ignore]
        input, linear_weight, target, **settings
    )


def _takes_rows(
    op: str, x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None
) -> bool:
    """Whether the fused norm computes just what PyTorch would."""
    parts = [part for part in (weight, bias) if part is not None]
    return (
        len(shape) == 1
        and x.numel() > 0
        and tuple(x.shape[-1:]) == tuple(shape)
        and all(part.shape == x.shape[-1:] for part in parts)
        and all(part.dtype == x.dtype and part.device == x.device for part in parts)
        and not _is_autocast(x)
        and choose(op, x) != "reference"
    )


def _takes_heads(query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool) -> bool:
    """Whether the fused attention computes just what PyTorch would, mask and dropout aside."""
    tensors = query, key, value
    if any(x.dim() != 4 or x.numel() == 0 or x.dtype != query.dtype for x in tensors):
        return False
    batch, num_heads, _, head_dim = query.shape
    num_kv_heads = key.shape[1]
    fits = num_heads == num_kv_heads or (enable_gqa and num_heads % num_kv_heads == 0)
    return (
        fits
        and key.shape[:3] == value.shape[:3]
        and key.shape[0] == batch
        and key.shape[3] == head_dim
        and max(head_dim, value.shape[3]) <= _MOST_HEAD_DIM
        and all(x.device == query.device for x in tensors)
        and not _is_autocast(query)
        and choose("attention", query) != "reference"
    )


def _takes_projection(
    input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None, target: Tensor
) -> bool:
    """Whether the fused loss computes just what PyTorch would, the reduction aside."""
    parts = (linear_weight,) if linear_bias is None else (linear_weight, linear_bias)
    return (
        input.dim() == linear_weight.dim() == 2
        and input.shape[1] == linear_weight.shape[1]
        and target.shape == input.shape[:1]
        and (linear_bias is None or linear_bias.shape == linear_weight.shape[:1])
        and all(part.dtype == input.dtype and part.device == input.device for part in parts)
        and target.device == input.device
        and not _is_autocast(input)
        and choose("linear_cross_entropy", input) != "reference"
    )


def _is_autocast(x: Tensor) -> bool:
    """Whether PyTorch would choose dtypes by itself."""
    return torch.is_autocast_enabled(x.device.type)


def _equal_offsets(batch: int, length: int, device: torch.device) -> Tensor:
    return torch.arange(batch + 1, dtype=torch.int32, device=device) * length
