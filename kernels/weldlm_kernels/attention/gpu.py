"""attention in Triton: how the kernels of gpu_forward.py and gpu_backward.py are launched.

Nothing here looks at the offsets, so no launch waits for the GPU. Views are read where they lie: q,
k and v may be slices of one fused projection.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from weldlm_kernels.attention.gpu_backward import (
    attention_bwd_delta_kernel,
    attention_bwd_kv_kernel,
    attention_bwd_q_kernel,
)
from weldlm_kernels.attention.gpu_forward import attention_fwd_kernel
from weldlm_kernels.attention.gpu_sizes import MAX_HEAD_DIM, Blocks, choose_sizes

__all__ = ["attention", "attention_backward"]

# within a tile of up to 128 rows, addresses are computed in 32 bits
_MAX_STRIDE = 2**24


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Launches the forward; returns out [T, H, Dv] and lse [H, T]."""
    _check(q, v, scale)
    num_tokens, num_heads, _ = q.shape
    out = q.new_empty(num_tokens, num_heads, v.shape[2])
    lse = q.new_empty(num_heads, num_tokens, dtype=torch.float32)
    arguments = _inputs(q, k, v, q_offsets, k_offsets, is_causal, scale)
    blocks = choose_sizes(q.dtype, max(q.shape[2], v.shape[2])).forward
    ...
    return out, lse
