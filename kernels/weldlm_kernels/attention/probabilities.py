"""The probabilities of attention as tensors, for those who want to look at them.

Always by the reference: a fused kernel never holds them. Memory grows with the square of a
sequence's length.
"""

from itertools import pairwise

import torch
from torch import Tensor

from weldlm_kernels.attention import reference
from weldlm_kernels.attention.checks import check_options, check_tensors
from weldlm_kernels.attention.offsets import read_offsets
from weldlm_kernels.attention.options import Options

__all__ = ["attention_probabilities"]


def attention_probabilities(
    q: Tensor,
    k: Tensor,
    *,
    q_offsets: Tensor,
    k_offsets: Tensor,
    is_causal: bool,
    window: int | None = None,
    scale: float | None = None,
    relative_bias: Tensor | None = None,
    relative_bias_max_distance: int = 128,
    relative_bias_is_bidirectional: bool = False,
    alibi_slopes: Tensor | None = None,
    softcap: float | None = None,
) -> list[Tensor]:
    """Returns what `attention` weighs the values of each sequence by.

    Args and errors are those of `attention`.

    Returns:
        [num_heads, queries, keys] of each sequence, in fp32 (fp64 of fp64 inputs). Rows sum to 1,
        those of a query without a visible key to 0.
    """
    check_tensors(q, k, k, q_offsets, k_offsets)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    bias = relative_bias, relative_bias_max_distance, relative_bias_is_bidirectional
    options = Options(is_causal, window, scale, *bias, alibi_slopes, softcap, 0.0, None)
    check_options(q, options)
    precision = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(precision), k.to(precision)
    q_spans = pairwise(read_offsets("q_offsets", q_offsets, q.shape[0]))
    k_spans = pairwise(read_offsets("k_offsets", k_offsets, k.shape[0]))
    return [
        reference.probabilities(q[slice(*rows)], k[slice(*keys)], options)[0]
        for rows, keys in zip(q_spans, k_spans, strict=True)
    ]
