"""The backward Triton kernels of attention: no atomics, so the result does not depend on timing.

With P = softmax(scale Q K^T), dP = dO V^T and delta = rowsum(dO * O): dS = P * (dP - delta),
dV = P^T dO, dK = scale dS^T Q, dQ = scale dS K (Dao et al. 2022, arXiv:2205.14135, appendix B.2).
P is computed anew from lse, once by keys (dK and dV, over all query heads of a group) and once by
rows (dQ). Programs are laid out as in the forward.
"""

import triton
import triton.language as tl

from weldlm_kernels.attention.gpu_tiles import (
    clear_rows,
    is_visible,
    key_range,
    load_rows,
    locate,
    padded,
    row_range,
    span,
    store_rows,
)

__all__ = ["attention_bwd_delta_kernel", "attention_bwd_kv_kernel", "attention_bwd_q_kernel"]

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["num_tokens"])
def attention_bwd_delta_kernel(
    grad_out_ptr,  # [T, H, Dv]
    out_ptr,  # [T, H, Dv], contiguous
    delta_ptr,  # [H, T], contiguous
    stride_gt,
    stride_gh,
    num_tokens,
    num_heads,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    block, head, _ = locate(tl.cdiv(num_tokens, BLOCK_M), num_heads)

    first = block * BLOCK_M
    tokens = first + tl.arange(0, BLOCK_M)
    grad_out_ptr += head * stride_gh
    out_ptr += head * VALUE_DIM
    stride_ot = num_heads * VALUE_DIM

    grad_out = load_rows(grad_out_ptr, first, num_tokens, stride_gt, True, BLOCK_M, VALUE_DIM)
    out = load_rows(out_ptr, first, num_tokens, stride_ot, True, BLOCK_M, VALUE_DIM)

    delta = tl.sum(grad_out.to(tl.float32) * out.to(tl.float32), axis=1)

    tl.store(delta_ptr + head * num_tokens + tokens, delta, mask=tokens < num_tokens)


@triton.jit(do_not_specialize=["num_blocks", "num_sequences", "num_tokens", "num_keys"])
def attention_bwd_kv_kernel(
    q_ptr,  # [T, H, D]
    k_ptr,  # [S, Hkv, D]
    v_ptr,  # [S, Hkv, Dv]
    grad_out_ptr,  # [T, H, Dv]
    lse_ptr,  # [H, T], contiguous
    delta_ptr,  # [H, T], contiguous
    grad_k_ptr,  # [S, Hkv, D], contiguous
    grad_v_ptr,  # [S, Hkv, Dv], contiguous
    q_offsets_ptr,  # [B + 1]
    k_offsets_ptr,  # [B + 1]
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    stride_vt,
    stride_vh,
    stride_gt,
    stride_gh,
    num_blocks,
    num_sequences,
    num_tokens,
    num_keys,
    num_kv_heads,
    group,  # query heads that share a key/value head
    scale,
    IS_CAUSAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    # the first keys of a causal sequence are seen by the most rows, and they start first
    block, kv_head, sequence = locate(num_blocks, num_kv_heads)
    first_key = block * BLOCK_N

    k_start, k_length = span(k_offsets_ptr, sequence, num_sequences, num_keys)
    stride_dk, stride_dv = num_kv_heads * HEAD_DIM, num_kv_heads * VALUE_DIM
    grad_k_ptr += k_start * stride_dk + kv_head * HEAD_DIM
    grad_v_ptr += k_start * stride_dv + kv_head * VALUE_DIM
    if sequence == num_sequences:
        step = num_blocks * BLOCK_N
        clear_rows(grad_k_ptr, first_key, step, k_length, stride_dk, BLOCK_N, HEAD_DIM)
        clear_rows(grad_v_ptr, first_key, step, k_length, stride_dv, BLOCK_N, VALUE_DIM)
        return
    if first_key >= k_length:
        return
    q_start, q_length = span(q_offsets_ptr, sequence, num_sequences, 0)
    k_ptr += k_start * stride_kt + kv_head * stride_kh
    v_ptr += k_start * stride_vt + kv_head * stride_vh

    k = load_rows(k_ptr, first_key, k_length, stride_kt, True, BLOCK_N, HEAD_DIM)
    v = load_rows(v_ptr, first_key, k_length, stride_vt, True, BLOCK_N, VALUE_DIM)

    grad_k = tl.zeros([BLOCK_N, padded(HEAD_DIM)], tl.float32)
    grad_v = tl.zeros([BLOCK_N, padded(VALUE_DIM)], tl.float32)
    for IS_EDGE in tl.static_range(1 + IS_CAUSAL):
        grad_k, grad_v = collect_kv(
            grad_k,
            grad_v,
            k,
            v,
            q_ptr + q_start * stride_qt,
            grad_out_ptr + q_start * stride_gt,
            lse_ptr + q_start,
            delta_ptr + q_start,
            stride_qt,
            stride_qh,
            stride_gt,
            stride_gh,
            num_tokens,
            kv_head * group,
            group,
            first_key,
            k_length - q_length,
            q_length,
            scale * LOG2_E,
            IS_EDGE,
            IS_CAUSAL,
            HEAD_DIM,
            VALUE_DIM,
            BLOCK_M,
            BLOCK_N,
        )

    store_rows(grad_k_ptr, grad_k * scale, first_key, k_length, stride_dk, BLOCK_N, HEAD_DIM)
    store_rows(grad_v_ptr, grad_v, first_key, k_length, stride_dv, BLOCK_N, VALUE_DIM)


@triton.jit
def collect_kv(
    grad_k,  # [BLOCK_N, D]
    grad_v,  # [BLOCK_N, Dv]
    k,  # [BLOCK_N, D]
    v,  # [BLOCK_N, Dv]
    q_ptr,
    grad_out_ptr,
    lse_ptr,
    delta_ptr,
    stride_qt,
    stride_qh,
    stride_gt,
    stride_gh,
    stride_lh,
    first_head,
    num_heads,
    first_key,
    shift,
    q_length,
    scale_log2,
    IS_EDGE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Adds the rows that see all of a block of keys, or those on the diagonal, to its gradients.

    Rows from q_length on are loaded as zeros and add nothing. Keys from k_length on collect numbers
    without meaning, in rows of their own that are not stored.
    """
    keys = first_key + tl.arange(0, BLOCK_N)
    begin, end = row_range(first_key, shift, q_length, IS_EDGE, IS_CAUSAL, BLOCK_M, BLOCK_N)
    num_tiles = tl.cdiv(end - begin, BLOCK_M)
    # one loop over heads and tiles: as two nested loops it takes 20 registers more
    for step in range(0, num_heads * num_tiles):
        head = first_head + step // num_tiles
        first_row = begin + step % num_tiles * BLOCK_M
        rows = first_row + tl.arange(0, BLOCK_M)
        head_q_ptr, head_grad_ptr = q_ptr + head * stride_qh, grad_out_ptr + head * stride_gh
        q = load_rows(head_q_ptr, first_row, q_length, stride_qt, True, BLOCK_M, HEAD_DIM)
        lse = tl.load(lse_ptr + head * stride_lh + rows, mask=rows < q_length, other=0.0) * LOG2_E
        scores = tl.dot(k, tl.trans(q), input_precision="ieee")  # [BLOCK_N, BLOCK_M]
        p = tl.exp2(scores * scale_log2 - lse[None, :])
        if IS_EDGE:
            p = tl.where(keys[:, None] <= rows[None, :] + shift, p, 0.0)
        grad_out = load_rows(
            head_grad_ptr, first_row, q_length, stride_gt, True, BLOCK_M, VALUE_DIM
        )
        grad_v = tl.dot(p.to(grad_out.dtype), grad_out, grad_v, input_precision="ieee")
        delta = tl.load(delta_ptr + head * stride_lh + rows, mask=rows < q_length, other=0.0)
        grad_p = tl.dot(v, tl.trans(grad_out), input_precision="ieee")
        grad_scores = p * (grad_p - delta[None, :])
        grad_k = tl.dot(grad_scores.to(q.dtype), q, grad_k, input_precision="ieee")
    return grad_k, grad_v


@triton.jit(do_not_specialize=["num_blocks", "num_sequences", "num_tokens"])
def attention_bwd_q_kernel(
    q_ptr,  # [T, H, D]
    k_ptr,  # [S, Hkv, D]
    v_ptr,  # [S, Hkv, Dv]
    grad_out_ptr,  # [T, H, Dv]
    lse_ptr,  # [H, T], contiguous
    delta_ptr,  # [H, T], contiguous
    grad_q_ptr,  # [T, H, D], contiguous
    q_offsets_ptr,  # [B + 1]
    k_offsets_ptr,  # [B + 1]
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    stride_vt,
    stride_vh,
    stride_gt,
    stride_gh,
    num_blocks,
    num_sequences,
    num_tokens,
    num_heads,
    group,  # query heads that share a key/value head
    scale,
    IS_CAUSAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    block, head, sequence = locate(num_blocks, num_heads)
    # the last rows of a causal sequence see the most keys, so they start first
    first_row = (num_blocks - 1 - block) * BLOCK_M

    q_start, q_length = span(q_offsets_ptr, sequence, num_sequences, num_tokens)
    stride_dq = num_heads * HEAD_DIM
    grad_q_ptr += q_start * stride_dq + head * HEAD_DIM
    if sequence == num_sequences:
        step = num_blocks * BLOCK_M
        clear_rows(grad_q_ptr, first_row, step, q_length, stride_dq, BLOCK_M, HEAD_DIM)
        return
    if first_row >= q_length:
        return
    k_start, k_length = span(k_offsets_ptr, sequence, num_sequences, 0)
    q_ptr += q_start * stride_qt + head * stride_qh
    k_ptr += k_start * stride_kt + head // group * stride_kh
    v_ptr += k_start * stride_vt + head // group * stride_vh
    grad_out_ptr += q_start * stride_gt + head * stride_gh
    tokens = head * num_tokens + q_start + first_row + tl.arange(0, BLOCK_M)
    is_row = first_row + tl.arange(0, BLOCK_M) < q_length

    q = load_rows(q_ptr, first_row, q_length, stride_qt, True, BLOCK_M, HEAD_DIM)
    grad_out = load_rows(grad_out_ptr, first_row, q_length, stride_gt, True, BLOCK_M, VALUE_DIM)
    lse = tl.load(lse_ptr + tokens, mask=is_row, other=0.0) * LOG2_E
    delta = tl.load(delta_ptr + tokens, mask=is_row, other=0.0)

    grad_q = tl.zeros([BLOCK_M, padded(HEAD_DIM)], tl.float32)
    for IS_EDGE in tl.static_range(2):
        grad_q = collect_q(
            grad_q,
            q,
            grad_out,
            lse,
            delta,
            k_ptr,
            v_ptr,
            stride_kt,
            stride_vt,
            first_row,
            k_length - q_length,
            k_length,
            scale * LOG2_E,
            IS_EDGE,
            IS_CAUSAL,
            HEAD_DIM,
            VALUE_DIM,
            BLOCK_M,
            BLOCK_N,
        )

    store_rows(grad_q_ptr, grad_q * scale, first_row, q_length, stride_dq, BLOCK_M, HEAD_DIM)


@triton.jit
def collect_q(
    grad_q,  # [BLOCK_M, D]
    q,  # [BLOCK_M, D]
    grad_out,  # [BLOCK_M, Dv]
    lse,  # [BLOCK_M], in units of log2
    delta,  # [BLOCK_M]
    k_ptr,
    v_ptr,
    stride_kt,
    stride_vt,
    first_row,
    shift,
    k_length,
    scale_log2,
    IS_EDGE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Adds the keys that all rows see, or those at the edge, to the gradient of the rows."""
    rows = first_row + tl.arange(0, BLOCK_M)
    begin, end = key_range(first_row, shift, k_length, IS_EDGE, IS_CAUSAL, BLOCK_M, BLOCK_N)
    for first_key in range(begin, end, BLOCK_N):
        k = load_rows(k_ptr, first_key, k_length, stride_kt, IS_EDGE, BLOCK_N, HEAD_DIM)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        p = tl.exp2(scores * scale_log2 - lse[:, None])
        if IS_EDGE:
            keys = first_key + tl.arange(0, BLOCK_N)
            visible = is_visible(rows[:, None], keys[None, :], shift, k_length, IS_CAUSAL)
            p = tl.where(visible, p, 0.0)
        v = load_rows(v_ptr, first_key, k_length, stride_vt, IS_EDGE, BLOCK_N, VALUE_DIM)
        grad_p = tl.dot(grad_out, tl.trans(v), input_precision="ieee")
        grad_scores = p * (grad_p - delta[:, None])
        grad_q = tl.dot(grad_scores.to(k.dtype), k, grad_q, input_precision="ieee")
    return grad_q
