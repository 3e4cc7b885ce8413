"""The backward of attention by keys, in Triton: the gradients of k and v."""

import triton
import triton.language as tl

from weldlm_kernels.attention.gpu_dropout import are_kept, draw_words, grow_kept
from weldlm_kernels.attention.gpu_ranges import is_visible, row_range, skip
from weldlm_kernels.attention.gpu_scores import capped_grad, load_lse, to_scores
from weldlm_kernels.attention.gpu_tiles import (
    begin_at,
    clear_rows,
    load_rows,
    locate,
    padded,
    span,
    steps,
    store_rows,
)

__all__ = ["attention_bwd_kv_kernel"]


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
    modifiers,
    UNIT: tl.constexpr,  # of all strides
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
    q_steps, g_steps = steps(stride_qt, stride_qh, UNIT), steps(stride_gt, stride_gh, UNIT)
    k_ptr, stride_kt = begin_at(k_ptr, k_start, kv_head, stride_kt, stride_kh, UNIT)
    v_ptr, stride_vt = begin_at(v_ptr, k_start, kv_head, stride_vt, stride_vh, UNIT)

    k = load_rows(k_ptr, first_key, k_length, stride_kt, True, BLOCK_N, HEAD_DIM)
    v = load_rows(v_ptr, first_key, k_length, stride_vt, True, BLOCK_N, VALUE_DIM)
    grad_k = tl.zeros([BLOCK_N, padded(HEAD_DIM)], tl.float32)
    grad_v = tl.zeros([BLOCK_N, padded(VALUE_DIM)], tl.float32)
    for IS_EDGE in tl.static_range(1 + (IS_CAUSAL or modifiers.window is not None)):
        grad_k, grad_v = collect_kv(
            grad_k,
            grad_v,
            k,
            v,
            q_ptr + q_start * q_steps[0],
            grad_out_ptr + q_start * g_steps[0],
            lse_ptr + q_start,
            delta_ptr + q_start,
            q_steps,
            g_steps,
            num_tokens,
            kv_head * group,
            group,
            (q_start, k_start),
            first_key,
            k_length - q_length,
            q_length,
            scale,
            modifiers,
            IS_EDGE,
            IS_CAUSAL,
            HEAD_DIM,
            VALUE_DIM,
            BLOCK_M,
            BLOCK_N,
        )

    store_rows(grad_k_ptr, grad_k * scale, first_key, k_length, stride_dk, BLOCK_N, HEAD_DIM)
    grad_v = grow_kept(grad_v, modifiers.keep_scale)
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
    q_steps,  # from token to token, from head to head
    g_steps,
    stride_lh,
    first_head,
    num_heads,
    starts,  # first tokens of queries and keys
    first_key,
    shift,
    q_length,
    scale,
    modifiers,
    IS_EDGE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Adds the rows that see all of a block of keys, or those at the edge, to its gradients.

    Rows from q_length on are loaded as zeros and add nothing. Keys from k_length on collect numbers
    without meaning, in rows of their own that are not stored.
    """
    window, seed_ptr = modifiers.window, modifiers.seed_ptr
    keys = first_key + tl.arange(0, BLOCK_N)
    begin, end, jump, gap = row_range(
        first_key, shift, q_length, window, IS_EDGE, IS_CAUSAL, BLOCK_M, BLOCK_N
    )
    num_tiles = tl.cdiv(end - begin, BLOCK_M)
    # one loop over heads and tiles: as two nested loops it takes 20 registers more
    for step in range(0, num_heads * num_tiles):
        head = first_head + step // num_tiles
        first_row = skip(begin + step % num_tiles * BLOCK_M, jump, gap, window)
        rows = first_row + tl.arange(0, BLOCK_M)
        head_q_ptr, head_grad_ptr = q_ptr + head * q_steps[1], grad_out_ptr + head * g_steps[1]
        q = load_rows(head_q_ptr, first_row, q_length, q_steps[0], True, BLOCK_M, HEAD_DIM)
        lse = load_lse(lse_ptr + head * stride_lh + rows, rows < q_length, modifiers)
        scores = tl.dot(k, tl.trans(q), input_precision="ieee")  # [BLOCK_N, BLOCK_M]
        distance = keys[:, None] - (rows + shift)[None, :]
        lowest = first_key - first_row - shift - BLOCK_M + 1
        highest = lowest + BLOCK_M + BLOCK_N - 2
        scores, unit = to_scores(scores, distance, lowest, highest, head, scale, modifiers)
        p = tl.exp2(scores * unit - lse[None, :])
        if IS_EDGE:
            visible = is_visible(rows[None, :], keys[:, None], shift, window, IS_CAUSAL)
            p = tl.where(visible, p, 0.0)
        grad_out = load_rows(
            head_grad_ptr, first_row, q_length, g_steps[0], True, BLOCK_M, VALUE_DIM
        )
        kept_p = p
        if seed_ptr is not None:
            key_words = draw_words(seed_ptr, head, starts[1] + keys, True)
            row_words = draw_words(seed_ptr, head, starts[0] + rows, False)
            kept = are_kept(row_words[None, :], key_words[:, None], modifiers.threshold)
            kept_p = tl.where(kept, p, 0.0)
        grad_v = tl.dot(kept_p.to(grad_out.dtype), grad_out, grad_v, input_precision="ieee")
        delta = tl.load(delta_ptr + head * stride_lh + rows, mask=rows < q_length, other=0.0)
        grad_p = tl.dot(v, tl.trans(grad_out), input_precision="ieee")
        if seed_ptr is not None:
            grad_p = tl.where(kept, grad_p * modifiers.keep_scale, 0.0)
        grad_scores = capped_grad(p * (grad_p - delta[None, :]), scores, modifiers)
        grad_k = tl.dot(grad_scores.to(q.dtype), q, grad_k, input_precision="ieee")
    return grad_k, grad_v
