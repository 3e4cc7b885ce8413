"""attention in Triton: how the kernels of gpu_forward.py and gpu_backward.py are launched.

Nothing here reads the offsets, so no launch waits for the GPU. Views are read where they lie: q, k
and v may be slices of one fused projection.
"""

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
from weldlm_kernels.attention.gpu_sizes import DELTA_ROWS, MAX_HEAD_DIM, Blocks, choose_sizes

__all__ = ["attention", "attention_backward"]

# offsets within a tile of up to 128 rows are computed in 32 bits
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
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Launches the forward; returns out [T, H, Dv] and lse [H, T]."""
    _check(q, v, scale)
    num_tokens, num_heads, head_dim = q.shape
    out = q.new_empty(num_tokens, num_heads, v.shape[2])
    lse = q.new_empty(num_heads, num_tokens, dtype=torch.float32)
    with torch.cuda.device_of(q):
        blocks = choose_sizes(q.dtype, max(head_dim, v.shape[2])).forward
        num_blocks = _num_blocks(q_max_length, blocks.block_m)
        attention_fwd_kernel[_grid(num_blocks, num_heads, q_offsets)](
            **_inputs(q, k, v, q_offsets, k_offsets, is_causal, scale),
            **_options(blocks),
            out_ptr=out,
            lse_ptr=lse,
            num_blocks=num_blocks,
            num_tokens=num_tokens,
            num_heads=num_heads,
        )
    return out, lse


def attention_backward(
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
    is_causal: bool,
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launches the backward; returns the gradients of q, k and v."""
    num_tokens, num_heads, head_dim = q.shape
    num_keys, num_kv_heads, value_dim = v.shape
    grad_q, grad_k, grad_v = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
    grad_out, delta = _readable(grad_out), torch.empty_like(lse)
    arguments = _inputs(q, k, v, q_offsets, k_offsets, is_causal, scale) | {
        "grad_out_ptr": grad_out,
        "stride_gt": grad_out.stride(0),
        "stride_gh": grad_out.stride(1),
        "lse_ptr": lse,
        "delta_ptr": delta,
        "num_tokens": num_tokens,
    }
    with torch.cuda.device_of(q):
        _compute_delta(grad_out, out, delta)
        sizes = choose_sizes(q.dtype, max(head_dim, value_dim))
        num_blocks = _num_blocks(k_max_length, sizes.backward_kv.block_n)
        attention_bwd_kv_kernel[_grid(num_blocks, num_kv_heads, k_offsets)](
            **arguments,
            **_options(sizes.backward_kv),
            grad_k_ptr=grad_k,
            grad_v_ptr=grad_v,
            num_blocks=num_blocks,
            num_keys=num_keys,
            num_kv_heads=num_kv_heads,
        )
        num_blocks = _num_blocks(q_max_length, sizes.backward_q.block_m)
        attention_bwd_q_kernel[_grid(num_blocks, num_heads, q_offsets)](
            **arguments,
            **_options(sizes.backward_q),
            grad_q_ptr=grad_q,
            num_blocks=num_blocks,
            num_heads=num_heads,
        )
    return grad_q, grad_k, grad_v


def _compute_delta(grad_out: Tensor, out: Tensor, delta: Tensor) -> None:
    """Writes rowsum(grad_out * out) into delta [H, T]."""
    num_heads, num_tokens = delta.shape
    attention_bwd_delta_kernel[(triton.cdiv(num_tokens, DELTA_ROWS) * num_heads,)](
        grad_out_ptr=grad_out,
        out_ptr=out.contiguous(),
        delta_ptr=delta,
        stride_gt=grad_out.stride(0),
        stride_gh=grad_out.stride(1),
        num_tokens=num_tokens,
        num_heads=num_heads,
        VALUE_DIM=out.shape[2],
        BLOCK_M=DELTA_ROWS,
    )


def _check(q: Tensor, v: Tensor, scale: float) -> None:
    head_dim, value_dim = q.shape[2], v.shape[2]
    if max(head_dim, value_dim) > MAX_HEAD_DIM:
        raise ValueError(
            f"head_dim is {head_dim} and value_dim {value_dim}; the Triton kernels take at most "
            f"{MAX_HEAD_DIM}; call under weldlm_kernels.use_backend('reference')"
        )
    if not scale > 0.0:
        raise ValueError(
            f"scale is {scale}; the Triton kernels expect it above 0; scale q before the call"
        )


def _inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    is_causal: bool,
    scale: float,
) -> dict[str, Any]:
    """The arguments that the three looping kernels have in common."""
    q, k, v = _readable(q), _readable(k), _readable(v)
    return {
        "q_ptr": q,
        "k_ptr": k,
        "v_ptr": v,
        "q_offsets_ptr": q_offsets.contiguous(),
        "k_offsets_ptr": k_offsets.contiguous(),
        "stride_qt": q.stride(0),
        "stride_qh": q.stride(1),
        "stride_kt": k.stride(0),
        "stride_kh": k.stride(1),
        "stride_vt": v.stride(0),
        "stride_vh": v.stride(1),
        "num_sequences": q_offsets.shape[0] - 1,
        "group": q.shape[1] // k.shape[1],
        "scale": scale,
        "IS_CAUSAL": is_causal,
        "HEAD_DIM": q.shape[2],
        "VALUE_DIM": v.shape[2],
    }


def _readable(x: Tensor) -> Tensor:
    return x if x.stride(2) == 1 and x.stride(0) < _MAX_STRIDE else x.contiguous()


def _options(blocks: Blocks) -> dict[str, int]:
    return {
        "BLOCK_M": blocks.block_m,
        "BLOCK_N": blocks.block_n,
        "num_warps": blocks.num_warps,
        "num_stages": blocks.num_stages,
    }


def _num_blocks(max_length: int, block: int) -> int:
    # at least one, for the tokens behind the last offset
    return max(1, triton.cdiv(max_length, block))


def _grid(num_blocks: int, num_heads: int, offsets: Tensor) -> tuple[int]:
    """One program a block, head and sequence; offsets hold one more entry than sequences."""
    return (num_blocks * num_heads * offsets.shape[0],)
