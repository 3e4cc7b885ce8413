"""The backward of attention by rows, in Triton: the gradients of q and of a relative bias."""

import triton
import triton.language as tl

from weldlm_kernels.attention.gpu_bias_grad import collect_bias, own_table, store_far
from weldlm_kernels.attention.gpu_dropout import are_kept, draw_words
from weldlm_kernels.attention.gpu_ranges import is_visible, key_range, skip
from weldlm_kernels.attention.gpu_scores import capped_grad, load_lse, to_scores
from weldlm_kernels.attention.gpu_tiles import (
    begin_at,
    clear_rows,
    load_rows,
    locate,
    padded,
    span,
    store_rows,
)

__all__ = ["attention_bwd_q_kernel"]


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
    modifiers,
    UNIT: tl.constexpr,  # of all strides
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
    q_ptr, stride_qt = begin_at(q_ptr, q_start, head, stride_qt, stride_qh, UNIT)
    k_ptr, stride_kt = begin_at(k_ptr, k_start, head // group, stride_kt, stride_kh, UNIT)
    v_ptr, stride_vt = begin_at(v_ptr, k_start, head // group, stride_vt, stride_vh, UNIT)
    grad_out_ptr, stride_gt = begin_at(grad_out_ptr, q_start, head, stride_gt, stride_gh, UNIT)
    tokens = head * num_tokens + q_start + first_row + tl.arange(0, BLOCK_M)
    is_row = first_row + tl.arange(0, BLOCK_M) < q_length

    q = load_rows(q_ptr, first_row, q_length, stride_qt, True, BLOCK_M, HEAD_DIM)
    grad_out = load_rows(grad_out_ptr, first_row, q_length, stride_gt, True, BLOCK_M, VALUE_DIM)
    lse = load_lse(lse_ptr + tokens, is_row, modifiers)
    delta = tl.load(delta_ptr + tokens, mask=is_row, other=0.0)

    table_ptr = own_table(modifiers, q_start, sequence, first_row, head, num_heads, BLOCK_M)
    grad_q = tl.zeros([BLOCK_M, padded(HEAD_DIM)], tl.float32)
    for IS_EDGE in tl.static_range(2):
        grad_q = collect_q(
            grad_q,
            q,
            grad_out,
            lse,
            delta,
            table_ptr,
            k_ptr,
            v_ptr,
            stride_kt,
            stride_vt,
            head,
            (q_start, k_start),
            first_row,
            k_length - q_length,
            k_length,
            scale,
            modifiers,
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
    grad_bias_ptr,  # [2 * reach + 1], of this block of rows alone
    k_ptr,
    v_ptr,
    stride_kt,
    stride_vt,
    head,
    starts,  # first tokens of queries and keys
    first_row,
    shift,
    k_length,
    scale,
    modifiers,
    IS_EDGE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Adds the keys that all rows see, or those at the edge, to the gradient of the rows."""
    window, seed_ptr, reach = modifiers.window, modifiers.seed_ptr, modifiers.reach
    rows = first_row + tl.arange(0, BLOCK_M)
    if seed_ptr is not None:
        row_words = draw_words(seed_ptr, head, starts[0] + rows, False)
    if grad_bias_ptr is not None:
        before, behind = tl.zeros([BLOCK_M], tl.float32), tl.zeros([BLOCK_M], tl.float32)
    begin, end, jump, gap = key_range(
        first_row, shift, k_length, window, IS_EDGE, IS_CAUSAL, BLOCK_M, BLOCK_N
    )
    for position in range(begin, end, BLOCK_N):
        first_key = skip(position, jump, gap, window)
        keys = first_key + tl.arange(0, BLOCK_N)
        k = load_rows(k_ptr, first_key, k_length, stride_kt, IS_EDGE, BLOCK_N, HEAD_DIM)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        distance = keys[None, :] - (rows + shift)[:, None]
        lowest = first_key - first_row - shift - BLOCK_M + 1
        highest = lowest + BLOCK_M + BLOCK_N - 2
        scores, unit = to_scores(scores, distance, lowest, highest, head, scale, modifiers)
        p = tl.exp2(scores * unit - lse[:, None])
        if IS_EDGE:
            visible = (keys < k_length)[None, :]
            if IS_CAUSAL or window is not None:
                visible &= is_visible(rows[:, None], keys[None, :], shift, window, IS_CAUSAL)
            p = tl.where(visible, p, 0.0)
        v = load_rows(v_ptr, first_key, k_length, stride_vt, IS_EDGE, BLOCK_N, VALUE_DIM)
        grad_p = tl.dot(grad_out, tl.trans(v), input_precision="ieee")
        if seed_ptr is not None:
            key_words = draw_words(seed_ptr, head, starts[1] + keys, True)
            kept = are_kept(row_words[:, None], key_words[None, :], modifiers.threshold)
            grad_p = tl.where(kept, grad_p * modifiers.keep_scale, 0.0)
        grad_scores = capped_grad(p * (grad_p - delta[:, None]), scores, modifiers)
        grad_q = tl.dot(grad_scores.to(k.dtype), k, grad_q, input_precision="ieee")
        # last, because no operand of a product stays in registers over its barriers then
        if grad_bias_ptr is not None:
            before, behind = collect_bias(
                before, behind, grad_scores, distance, lowest, highest, grad_bias_ptr, reach
            )
    if grad_bias_ptr is not None:
        store_far(grad_bias_ptr, before, behind, reach)
    return grad_q
