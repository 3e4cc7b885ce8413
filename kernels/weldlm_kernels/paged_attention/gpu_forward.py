"""The Triton kernels of paged_attention: FlashAttention-2 over pages, and the merge of splits.

A program owns one block of rows, one key/value head and one split of the keys that the rows see.
Blocks of all sequences are numbered through; a program finds its sequence by counting offsets, so
short sequences beside a long one cost nothing. One sequence more than there are stands for the
tokens behind the last offset.
"""

import triton
import triton.language as tl

from weldlm_kernels.attention.gpu_tiles import padded, span
from weldlm_kernels.paged_attention.gpu_tiles import (
    count_starts,
    end_whole,
    load_tile,
    locate_block,
    place_keys,
    see_keys,
    split_keys,
    store_tile,
    weigh,
    widen,
)

__all__ = ["paged_attention_kernel", "paged_attention_merge_kernel"]

# splits that the merge adds in one step; they are grouped by number, whatever their count
MERGED = tl.constexpr(8)


# sizes that change from batch to batch: a kernel specialized on their values would compile anew
@triton.jit(do_not_specialize=["num_sequences", "num_tokens", "window", "stride_table"])
def paged_attention_kernel(
    q_ptr,  # [T, H, D]
    key_ptr,  # [blocks, BLOCK_SIZE, Hkv, D]
    value_ptr,  # like key_ptr
    key_scale_ptr,  # [blocks, BLOCK_SIZE, Hkv], contiguous, or None
    value_scale_ptr,  # like key_scale_ptr
    table_ptr,  # [B, max_blocks]
    lengths_ptr,  # [B]
    q_offsets_ptr,  # [B + 1]
    slopes_ptr,  # [H] or None
    bias_ptr,  # [H, 2 * REACH + 1] or None
    out_ptr,  # [T, H, splits, D], contiguous
    lse_ptr,  # [T, H, splits], contiguous, or None for one split
    stride_qt,
    stride_qh,
    stride_block,
    stride_slot,
    stride_head,
    stride_table,
    num_tokens,
    num_sequences,
    group,  # query heads that share a key/value head
    scale,
    softcap,
    window,
    split_length,
    IS_CAUSAL: tl.constexpr,
    REACH: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    head, split, num_splits = tl.program_id(1), tl.program_id(2), tl.num_programs(2)
    sequence, first_row = locate_block(q_offsets_ptr, num_sequences, group, BLOCK_M)
    q_start, q_length = span(q_offsets_ptr, sequence, num_sequences, num_tokens)
    if first_row >= q_length * group:
        return
    length = tl.load(lengths_ptr + sequence, mask=sequence < num_sequences, other=0)
    shift = length - q_length
    begin, end = see_keys(first_row, shift, length, window, group, IS_CAUSAL, BLOCK_M, BLOCK_N)
    origin, size, _, _ = split_keys(begin, end, split_length, num_splits, BLOCK_N)
    begin = tl.maximum(begin, origin + split * size)
    end = tl.minimum(end, origin + (split + 1) * size)
    if lse_ptr is not None and begin >= end:
        return  # the merge does not read it
    rows = first_row + tl.arange(0, BLOCK_M)
    is_row, heads = rows < q_length * group, head * group + rows % group
    tokens, positions = q_start + rows // group, shift + rows // group

    q = load_tile(q_ptr, tokens * stride_qt + heads * stride_qh, is_row, True, HEAD_DIM)

    state = see_nothing(BLOCK_M, HEAD_DIM)
    pages = table_ptr + sequence * stride_table.to(tl.int64), stride_block, stride_slot, stride_head
    cache = key_ptr, value_ptr, key_scale_ptr, value_scale_ptr
    options = slopes_ptr, bias_ptr, scale, softcap, window
    edge = begin  # all of splits that must give the same bits whatever the other rows are
    if split_length is None and window is None:
        edge = end_whole(first_row // group + shift, begin, end, IS_CAUSAL, BLOCK_N)
    for IS_EDGE in tl.static_range(2):
        state = attend(
            state,
            q,
            positions,
            heads,
            edge if IS_EDGE else begin,
            end if IS_EDGE else edge,
            length,
            pages,
            cache,
            options,
            IS_EDGE,
            IS_CAUSAL,
            REACH,
            HEAD_DIM,
            BLOCK_SIZE,
            BLOCK_N,
        )
    acc, row_max, row_sum = state
    # a row without a visible key has row_sum = 0 and row_max = -inf
    row_sum = tl.where(row_sum == 0.0, 1.0, row_sum)
    out = acc / row_sum[:, None]

    num_heads = tl.num_programs(1) * group
    places = (tokens * num_heads + heads) * num_splits + split
    store_tile(out_ptr, places * HEAD_DIM, out, is_row, HEAD_DIM)
    if lse_ptr is not None:
        tl.store(lse_ptr + places, row_max + tl.log2(row_sum), mask=is_row)


@triton.jit
def see_nothing(ROWS: tl.constexpr, SIZE: tl.constexpr):
    """The running softmax before the first key: acc, row_max in units of log2, and row_sum."""
    row_max = tl.full([ROWS], float("-inf"), tl.float32)
    return tl.zeros([ROWS, padded(SIZE)], tl.float32), row_max, tl.zeros([ROWS], tl.float32)


@triton.jit
def attend(
    state,  # acc [BLOCK_M, D], row_max [BLOCK_M] and row_sum [BLOCK_M]
    q,  # [BLOCK_M, D]
    positions,  # [BLOCK_M], places of the rows among the keys
    heads,  # [BLOCK_M]
    begin,
    end,
    length,
    pages,
    cache,
    options,
    IS_EDGE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    REACH: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Adds the keys from begin to end to the running softmax; only at the edge some are hidden."""
    acc, row_max, row_sum = state
    table_ptr, stride_block, stride_slot, stride_head = pages
    key_ptr, value_ptr, key_scale_ptr, value_scale_ptr = cache
    slopes_ptr, bias_ptr, scale, softcap, window = options
    head = tl.program_id(1)
    for first_key in range(begin, end, BLOCK_N):
        keys = first_key + tl.arange(0, BLOCK_N)
        is_key = keys < length
        page, slot = place_keys(table_ptr, keys, length, IS_EDGE, BLOCK_SIZE)
        places = page * stride_block + slot * stride_slot + head * stride_head
        scale_places = (page * BLOCK_SIZE + slot) * tl.num_programs(1) + head

        k = widen(load_tile(key_ptr, places, is_key, IS_EDGE, HEAD_DIM), q.dtype)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if key_scale_ptr is not None:
            key_scale = tl.load(key_scale_ptr + scale_places, mask=is_key, other=0.0)
            scores *= key_scale.to(tl.float32)[None, :]
        distance = keys[None, :] - positions[:, None]
        scores = weigh(scores, distance, heads, slopes_ptr, bias_ptr, scale, softcap, REACH)
        if IS_EDGE:
            visible = is_key[None, :]
            if IS_CAUSAL:
                visible = visible & (distance <= 0)
            if window is not None:
                visible = visible & (tl.abs(distance) < window)
            scores = tl.where(visible, scores, float("-inf"))

        new_max = tl.maximum(row_max, tl.max(scores, axis=1))
        # -inf - -inf would be nan
        base = tl.where(new_max == float("-inf"), 0.0, new_max) if IS_EDGE else new_max
        p = tl.exp2(scores - base[:, None])
        decay = tl.exp2(row_max - base)
        row_sum = row_sum * decay + tl.sum(p, axis=1)
        acc *= decay[:, None]
        v = widen(load_tile(value_ptr, places, is_key, IS_EDGE, HEAD_DIM), q.dtype)
        if value_scale_ptr is not None:
            value_scale = tl.load(value_scale_ptr + scale_places, mask=is_key, other=0.0)
            value_scale = value_scale.to(tl.float32)
            # as shares of the largest, for which the exponents of fp16 suffice
            largest = tl.maximum(tl.max(value_scale, axis=0), 1e-30)
            p *= (value_scale / largest)[None, :]
            acc += tl.dot(p.to(v.dtype), v, input_precision="ieee") * largest
        else:
            acc = tl.dot(p.to(v.dtype), v, acc, input_precision="ieee")
        row_max = new_max
    return acc, row_max, row_sum


@triton.jit(do_not_specialize=["num_sequences", "num_tokens", "num_splits", "window"])
def paged_attention_merge_kernel(
    partial_ptr,  # [T, H, num_splits, D], contiguous
    lse_ptr,  # [T, H, num_splits], contiguous
    lengths_ptr,  # [B]
    q_offsets_ptr,  # [B + 1]
    out_ptr,  # [T, H, D], contiguous
    num_tokens,
    num_sequences,
    num_splits,
    group,
    window,
    split_length,
    IS_CAUSAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """out = sum of 2^lse partial / sum of 2^lse over the splits of a token's head."""
    token, head = tl.program_id(0), tl.program_id(1)
    sequence = count_starts(q_offsets_ptr, token, num_sequences, group, 0) - 1
    q_start, q_length = span(q_offsets_ptr, sequence, num_sequences, num_tokens)
    length = tl.load(lengths_ptr + sequence, mask=sequence < num_sequences, other=0)
    row = ((token - q_start) * group + head % group).to(tl.int32)
    begin, end = see_keys(
        row // BLOCK_M * BLOCK_M,
        length - q_length,
        length,
        window,
        group,
        IS_CAUSAL,
        BLOCK_M,
        BLOCK_N,
    )
    _, _, first, stop = split_keys(begin, end, split_length, num_splits, BLOCK_N)
    columns = tl.arange(0, padded(HEAD_DIM))
    place = token.to(tl.int64) * tl.num_programs(1) + head

    acc = tl.zeros([padded(HEAD_DIM)], tl.float32)
    total = tl.zeros([1], tl.float32)
    top = tl.full([1], float("-inf"), tl.float32)
    for first_split in range(first // MERGED * MERGED, stop, MERGED):
        splits = first_split + tl.arange(0, MERGED)
        is_split = (splits >= first) & (splits < stop)
        places = place * num_splits + splits
        lse = tl.load(lse_ptr + places, mask=is_split, other=float("-inf"))
        partial = tl.load(
            partial_ptr + (places * HEAD_DIM)[:, None] + columns[None, :],
            mask=is_split[:, None] & (columns < HEAD_DIM)[None, :],
            other=0.0,
        )
        new_top = tl.maximum(top, tl.max(lse, axis=0, keep_dims=True))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight, decay = tl.exp2(lse - base), tl.exp2(top - base)
        acc = acc * decay + tl.sum(weight[:, None] * partial, axis=0)
        total = total * decay + tl.sum(weight, axis=0, keep_dims=True)
        top = new_top
    out = acc / tl.where(total == 0.0, 1.0, total)

    pointers = out_ptr + place * HEAD_DIM + columns
    tl.store(pointers, out.to(out_ptr.dtype.element_ty), mask=columns < HEAD_DIM)
