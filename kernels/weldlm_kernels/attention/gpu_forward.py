"""The forward Triton kernel of attention: FlashAttention-2 (Dao 2023, arXiv:2307.08691), packed.

A program owns one block of rows of one head and sequence. The grid covers the longest sequence, and
programs behind the end of a shorter one return at once. One sequence more than there are stands for
the tokens behind the last offset; its programs store what a query without a key gives.
"""

import triton
import triton.language as tl

from weldlm_kernels.attention.gpu_dropout import are_kept, draw_words, grow_kept
from weldlm_kernels.attention.gpu_ranges import is_visible, key_range, skip
from weldlm_kernels.attention.gpu_scores import to_scores
from weldlm_kernels.attention.gpu_tiles import (
    begin_at,
    clear_rows,
    load_rows,
    locate,
    padded,
    span,
    store_rows,
)

__all__ = ["attention_fwd_kernel"]

LN_2 = tl.constexpr(0.6931471805599453)


# sizes that change from batch to batch: a kernel specialized on their values would compile anew
@triton.jit(do_not_specialize=["num_blocks", "num_sequences", "num_tokens"])
def attention_fwd_kernel(
    q_ptr,  # [T, H, D]
    k_ptr,  # [S, Hkv, D]
    v_ptr,  # [S, Hkv, Dv]
    out_ptr,  # [T, H, Dv], contiguous
    lse_ptr,  # [H, T], contiguous
    q_offsets_ptr,  # [B + 1]
    k_offsets_ptr,  # [B + 1]
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    stride_vt,
    stride_vh,
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
    stride_ot = num_heads * VALUE_DIM
    out_ptr += q_start * stride_ot + head * VALUE_DIM
    lse_ptr += head * num_tokens + q_start
    if sequence == num_sequences:
        step = num_blocks * BLOCK_M
        clear_rows(out_ptr, first_row, step, q_length, stride_ot, BLOCK_M, VALUE_DIM)
        for first in range(first_row, q_length, step):
            rows = first + tl.arange(0, BLOCK_M)
            tl.store(lse_ptr + rows, float("-inf"), mask=rows < q_length)
        return
    if first_row >= q_length:
        return
    k_start, k_length = span(k_offsets_ptr, sequence, num_sequences, 0)
    q_ptr, stride_qt = begin_at(q_ptr, q_start, head, stride_qt, stride_qh, UNIT)
    k_ptr, stride_kt = begin_at(k_ptr, k_start, head // group, stride_kt, stride_kh, UNIT)
    v_ptr, stride_vt = begin_at(v_ptr, k_start, head // group, stride_vt, stride_vh, UNIT)

    q = load_rows(q_ptr, first_row, q_length, stride_qt, True, BLOCK_M, HEAD_DIM)

    acc = tl.zeros([BLOCK_M, padded(VALUE_DIM)], tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    for IS_EDGE in tl.static_range(2):
        acc, row_max, row_sum = attend(
            acc,
            row_max,
            row_sum,
            q,
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
    # a row without a visible key has row_sum = 0 and row_max = -inf
    row_sum = tl.where(row_sum == 0.0, 1.0, row_sum)
    out = grow_kept(acc / row_sum[:, None], modifiers.keep_scale)
    lse = (row_max + tl.log2(row_sum)) * LN_2

    rows = first_row + tl.arange(0, BLOCK_M)
    store_rows(out_ptr, out, first_row, q_length, stride_ot, BLOCK_M, VALUE_DIM)
    tl.store(lse_ptr + rows, lse, mask=rows < q_length)


@triton.jit
def attend(
    acc,  # [BLOCK_M, Dv]
    row_max,  # [BLOCK_M], in units of log2
    row_sum,  # [BLOCK_M]
    q,  # [BLOCK_M, D]
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
    """Adds the keys that all rows see, or those at the edge, to the running softmax."""
    window, seed_ptr = modifiers.window, modifiers.seed_ptr
    rows = first_row + tl.arange(0, BLOCK_M)
    if seed_ptr is not None:
        row_words = draw_words(seed_ptr, head, starts[0] + rows, False)
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
        if IS_EDGE:
            visible = (keys < k_length)[None, :]
            if IS_CAUSAL or window is not None:
                visible &= is_visible(rows[:, None], keys[None, :], shift, window, IS_CAUSAL)
            scores = tl.where(visible, scores, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(scores, axis=1) * unit)
        # -inf - -inf would be nan
        base = tl.where(new_max == float("-inf"), 0.0, new_max) if IS_EDGE else new_max
        p = tl.exp2(scores * unit - base[:, None])
        decay = tl.exp2(row_max - base)
        row_sum = row_sum * decay + tl.sum(p, axis=1)
        if seed_ptr is not None:
            key_words = draw_words(seed_ptr, head, starts[1] + keys, True)
            p = tl.where(
                are_kept(row_words[:, None], key_words[None, :], modifiers.threshold), p, 0.0
            )
        v = load_rows(v_ptr, first_key, k_length, stride_vt, IS_EDGE, BLOCK_N, VALUE_DIM)
        acc = tl.dot(p.to(v.dtype), v, acc * decay[:, None], input_precision="ieee")
        row_max = new_max
    return acc, row_max, row_sum
