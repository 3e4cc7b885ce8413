"""attention in Triton: how the kernels of gpu_forward.py and gpu_backward_*.py are launched.

Nothing here reads the offsets, so no launch waits for the GPU. Views are read where they lie: q, k
and v may be slices of one fused projection.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from weldlm_kernels.attention.bias_table import BiasTable, build_bias_table
from weldlm_kernels.attention.dropout import threshold
from weldlm_kernels.attention.gpu_backward_delta import attention_bwd_delta_kernel
from weldlm_kernels.attention.gpu_backward_kv import attention_bwd_kv_kernel
from weldlm_kernels.attention.gpu_backward_q import attention_bwd_q_kernel
from weldlm_kernels.attention.gpu_forward import attention_fwd_kernel
from weldlm_kernels.attention.gpu_scores import Modifiers
from weldlm_kernels.attention.gpu_sizes import (
    DELTA_ROWS,
    MAX_HEAD_DIM,
    Blocks,
    Load,
    Sizes,
    choose_sizes,
)
from weldlm_kernels.attention.options import Options

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
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Launches the forward; returns out [T, H, Dv] and lse [H, T]."""
    _check(q, v, options.scale)
    q, k, v = _readable(q), _readable(k), _readable(v)
    num_tokens, num_heads, _ = q.shape
    out = q.new_empty(num_tokens, num_heads, v.shape[2])
    lse = q.new_empty(num_heads, num_tokens, dtype=torch.float32)
    with torch.cuda.device_of(q):
        blocks = _sizes(q, v, options).forward
        num_blocks = _num_blocks(q_max_length, blocks.block_m)
        attention_fwd_kernel[_grid(num_blocks, num_heads, q_offsets)](
            **_inputs(q, k, v, q_offsets, k_offsets, options, _stride_unit(q, k, v)),
            modifiers=_modifiers(options, build_bias_table(options)),
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
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Launches the backward; returns the gradients of q, k, v and the relative bias."""
    num_tokens, num_heads, _ = q.shape
    num_keys, num_kv_heads, _ = v.shape
    grad_q, grad_k, grad_v = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
    q, k, v, grad_out = _readable(q), _readable(k), _readable(v), _readable(grad_out)
    unit, delta = _stride_unit(q, k, v, grad_out), torch.empty_like(lse)
    table = build_bias_table(options)
    modifiers = _modifiers(options, table)
    arguments = _inputs(q, k, v, q_offsets, k_offsets, options, unit) | {
        "grad_out_ptr": grad_out,
        "stride_gt": grad_out.stride(0) // unit,
        "stride_gh": grad_out.stride(1) // unit,
        "lse_ptr": lse,
        "delta_ptr": delta,
        "num_tokens": num_tokens,
    }
    with torch.cuda.device_of(q):
        _compute_delta(grad_out, out, delta)
        sizes = _sizes(q, v, options)
        num_blocks = _num_blocks(k_max_length, sizes.backward_kv.block_n)
        attention_bwd_kv_kernel[_grid(num_blocks, num_kv_heads, k_offsets)](
            **arguments,
            **_options(sizes.backward_kv),
            modifiers=modifiers,
            grad_k_ptr=grad_k,
            grad_v_ptr=grad_v,
            num_blocks=num_blocks,
            num_keys=num_keys,
            num_kv_heads=num_kv_heads,
        )
        block_m = sizes.backward_q.block_m
        num_blocks = _num_blocks(q_max_length, block_m)
        # a block of rows has slot (its first row) // block_m + (its sequence)
        num_slots = num_tokens // block_m + q_offsets.shape[0]
        partial_grads = None if table is None else table.new_gradients(num_slots)
        attention_bwd_q_kernel[_grid(num_blocks, num_heads, q_offsets)](
            **arguments,
            **_options(sizes.backward_q),
            modifiers=modifiers._replace(grad_table_ptr=partial_grads),
            grad_q_ptr=grad_q,
            num_blocks=num_blocks,
            num_heads=num_heads,
        )
    if table is None or partial_grads is None:
        return grad_q, grad_k, grad_v, None
    return grad_q, grad_k, grad_v, table.gradient(partial_grads)


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
    options: Options,
    stride_unit: int,
) -> dict[str, Any]:
    """The arguments that the three looping kernels have in common."""
    return {
        "q_ptr": q,
        "k_ptr": k,
        "v_ptr": v,
        "q_offsets_ptr": q_offsets.contiguous(),
        "k_offsets_ptr": k_offsets.contiguous(),
        "stride_qt": q.stride(0) // stride_unit,
        "stride_qh": q.stride(1) // stride_unit,
        "stride_kt": k.stride(0) // stride_unit,
        "stride_kh": k.stride(1) // stride_unit,
        "stride_vt": v.stride(0) // stride_unit,
        "stride_vh": v.stride(1) // stride_unit,
        "num_sequences": q_offsets.shape[0] - 1,
        "group": q.shape[1] // k.shape[1],
        "scale": options.scale,
        "UNIT": stride_unit,
        "IS_CAUSAL": options.is_causal,
        "HEAD_DIM": q.shape[2],
        "VALUE_DIM": v.shape[2],
    }


def _modifiers(options: Options, table: BiasTable | None) -> Modifiers:
    modifiers = Modifiers(window=options.window, softcap=options.softcap)
    if options.alibi_slopes is not None:
        modifiers = modifiers._replace(slopes_ptr=options.alibi_slopes.contiguous())
    if table is not None:
        modifiers = modifiers._replace(table_ptr=table.values, reach=table.reach)
    if options.dropout_seed is not None:
        modifiers = modifiers._replace(
            seed_ptr=options.dropout_seed,
            threshold=threshold(options.dropout_p),
            keep_scale=1.0 / (1.0 - options.dropout_p),
        )
    return modifiers


def _sizes(q: Tensor, v: Tensor, options: Options) -> Sizes:
    modifiers = options.window, options.softcap, options.dropout_seed
    load: Load = "plain"
    if options.relative_bias is not None:
        load = "biased"
    elif options.alibi_slopes is not None:
        load = "sloped"
    elif any(x is not None for x in modifiers):
        load = "modified"
    return choose_sizes(q.dtype, max(q.shape[2], v.shape[2]), load)


def _readable(x: Tensor) -> Tensor:
    return x if x.stride(2) == 1 and x.stride(0) < _MAX_STRIDE else x.contiguous()


def _stride_unit(*rows: Tensor) -> int:
    """The unit in which kernels are given strides, so that they know what all are a multiple of.

    Triton itself sees multiples of 16 alone, and a load of 128 bits needs 8 elements of fp16.
    """
    strides = [stride for x in rows for stride in x.stride()[:2]]
    is_seen = all(stride % 16 == 0 for stride in strides)
    is_small = max(strides) < 2**31  # as a kernel multiplies them in 32 bits
    return 8 if not is_seen and is_small and all(stride % 8 == 0 for stride in strides) else 1


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
