"""sampling in Triton: a program samples a row, without sorting it.

The filters of a row keep all scores from some score on. That threshold is found by the digits of
the scores' bits, each digit by one pass over the row, which a multiprocessor's share of the cache
holds; where a tile has no candidate left it is only read. Tokens race only where one is kept.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from weldlm_kernels.sampling.gpu_tiles import (
    exponent_tile,
    exponential_tile,
    load_tile,
    order_key,
    power_of_two,
    row_threshold,
)
from weldlm_kernels.sampling.reference import count_tokens

__all__ = ["penalize", "sample"]


@triton.jit
def penalize_kernel(
    logits_ptr,  # [B, vocab_size]
    counts_ptr,  # [B, vocab_size] int32
    repetition_ptr,  # [B]
    presence_ptr,  # [B]
    frequency_ptr,  # [B]
    scores_ptr,  # [B, vocab_size] fp32
    vocab_size,
    stride_logits_row,
    BLOCK_C: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * BLOCK_C * 8

    x, ids = load_tile(logits_ptr + row * stride_logits_row, begin, vocab_size, BLOCK_C)
    mask = ids < vocab_size
    counts = tl.load(counts_ptr + row * vocab_size + ids, mask=mask, other=0)
    repetition = tl.load(repetition_ptr + row)

    x = x.to(tl.float32)
    repeated = tl.where(x > 0, tl.div_rn(x, repetition), x * repetition)
    scores = tl.where(counts > 0, repeated, x)
    scores = scores - tl.load(frequency_ptr + row) * counts.to(tl.float32)
    scores = scores - tl.load(presence_ptr + row) * (counts > 0).to(tl.float32)

    tl.store(scores_ptr + row * vocab_size + ids, scores, mask=mask)


@triton.jit
def highest(row_ptr, vocab_size, BLOCK_C: tl.constexpr):
    """The highest number of a row and the lowest of its ids."""
    best = tl.full([], -float("inf"), tl.float32)
    best_id = tl.full([], 0, tl.int32)
    for begin in range(0, vocab_size, BLOCK_C * 8):
        x, ids = load_tile(row_ptr, begin, vocab_size, BLOCK_C)
        best, best_id = better(best, best_id, x.to(tl.float32), ids)
    return best, best_id


@triton.jit
def better(best, best_id, x, ids):
    """The higher of (best, best_id) and the first of the highest x, the earlier where equal."""
    tile_best = tl.max(tl.max(x, axis=1), axis=0)
    tile_id = tl.min(tl.min(tl.where(x == tile_best, ids, 2147483647), axis=1), axis=0)
    return tl.where(tile_best > best, tile_best, best), tl.where(tile_best > best, tile_id, best_id)


@triton.jit
def log_sum_exp(row_ptr, vocab_size, top, BLOCK_C: tl.constexpr):
    total = tl.zeros([BLOCK_C, 8], tl.float32)
    for begin in range(0, vocab_size, BLOCK_C * 8):
        x, _ = load_tile(row_ptr, begin, vocab_size, BLOCK_C)
        total += tl.exp(x.to(tl.float32) - top)
    return top + tl.log(tl.sum(tl.sum(total, axis=1), axis=0))


@triton.jit
def sample_kernel(
    logits_ptr,  # [B, vocab_size]
    scores_ptr,  # [B, vocab_size], the logits where there are no penalties
    temperature_ptr,  # [B]
    seeds_ptr,  # [B]
    positions_ptr,  # [B]
    top_k_ptr,  # [B] or None
    top_p_ptr,  # [B] or None
    min_p_ptr,  # [B] or None
    ids_ptr,  # [B]
    logprobs_ptr,  # [B]
    vocab_size,
    stride_logits_row,
    stride_scores_row,
    HAS_PENALTIES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    KEY_BITS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    scores_ptr += row * stride_scores_row
    logits_ptr += row * stride_logits_row
    temperature = tl.load(temperature_ptr + row).to(tl.float32)

    top, best_id = highest(scores_ptr, vocab_size, BLOCK_C)
    top_logit = top
    if HAS_PENALTIES:
        top_logit, _ = highest(logits_ptr, vocab_size, BLOCK_C)
    lse = log_sum_exp(logits_ptr, vocab_size, top_logit, BLOCK_C)

    if temperature > 0.0:
        inverse = tl.div_rn(1.0, temperature)
        seed, position = tl.load(seeds_ptr + row), tl.load(positions_ptr + row)
        least = tl.full([], 0.0, tl.float32)
        if min_p_ptr is not None:
            least = tl.load(min_p_ptr + row).to(tl.float32)
        threshold = row_threshold(
            scores_ptr, vocab_size, top, inverse, top_k_ptr, top_p_ptr, row, BLOCK_C, KEY_BITS
        )
        best = tl.full([], -float("inf"), tl.float32)
        best_id = tl.full([], 0, tl.int32)
        for begin in range(0, vocab_size, BLOCK_C * 8):
            x, ids = load_tile(scores_ptr, begin, vocab_size, BLOCK_C)
            exponent = exponent_tile(x, top, inverse)
            is_kept = (order_key(x) >= threshold) & (exponent > -100.0)
            is_kept &= power_of_two(exponent) >= least
            if tl.max(tl.max(is_kept.to(tl.int32), axis=1), axis=0) > 0:
                numbers = exponential_tile(seed, position, begin, BLOCK_C)
                chance = tl.where(is_kept, -(numbers * power_of_two(-exponent)), -float("inf"))
                best, best_id = better(best, best_id, chance, ids)

    logprob = tl.load(logits_ptr + best_id).to(tl.float32) - lse
    is_valid = logprob == logprob
    tl.store(ids_ptr + row, tl.where(is_valid, best_id, 0).to(tl.int64))
    tl.store(logprobs_ptr + row, logprob)


# a thread takes 16 bytes of scores at a time. Not yet timed on a GPU.
_WARPS = 8
_TILE_BYTES = 16 * 32 * _WARPS


def _block_c(scores: Tensor) -> int:
    return _TILE_BYTES // (8 * scores.element_size())


def penalize(
    logits: Tensor,
    history_ids: Tensor,
    history_offsets: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> Tensor:
    """Launches the penalties; returns scores [B, vocab_size] fp32."""
    logits = _with_dense_rows(logits)
    batch, vocab_size = logits.shape
    scores = torch.empty(batch, vocab_size, dtype=torch.float32, device=logits.device)
    if batch == 0:
        return scores
    counts = count_tokens(history_ids, history_offsets, vocab_size)
    block_c = _block_c(logits)
    with torch.cuda.device_of(logits):
        penalize_kernel[(batch, triton.cdiv(vocab_size, block_c * 8))](
            logits_ptr=logits,
            counts_ptr=counts,
            repetition_ptr=repetition.contiguous(),
            presence_ptr=presence.contiguous(),
            frequency_ptr=frequency.contiguous(),
            scores_ptr=scores,
            vocab_size=vocab_size,
            stride_logits_row=logits.stride(0),
            BLOCK_C=block_c,
            num_warps=_WARPS,
            enable_fp_fusion=False,
        )
    return scores


def sample(
    logits: Tensor,
    scores: Tensor | None,
    temperature: Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Launches the draw; `scores` are the logits after penalties, None without."""
    logits = _with_dense_rows(logits)
    has_penalties = scores is not None
    scores = logits if scores is None else scores
    batch, vocab_size = logits.shape
    ids = torch.empty(batch, dtype=torch.int64, device=logits.device)
    logprobs = torch.empty(batch, dtype=torch.float32, device=logits.device)
    if batch == 0:
        return ids, logprobs
    top_k, top_p, min_p = (None if x is None else x.contiguous() for x in (top_k, top_p, min_p))
    with torch.cuda.device_of(logits):
        sample_kernel[(batch,)](
            logits_ptr=logits,
            scores_ptr=scores,
            temperature_ptr=temperature.contiguous(),
            seeds_ptr=seeds.contiguous(),
            positions_ptr=positions.contiguous(),
            top_k_ptr=top_k,
            top_p_ptr=top_p,
            min_p_ptr=min_p,
            ids_ptr=ids,
            logprobs_ptr=logprobs,
            vocab_size=vocab_size,
            stride_logits_row=logits.stride(0),
            stride_scores_row=scores.stride(0),
            HAS_PENALTIES=has_penalties,
            BLOCK_C=_block_c(scores),
            KEY_BITS=8 * scores.element_size(),
            num_warps=_WARPS,
            enable_fp_fusion=False,
        )
    return ids, logprobs


def _with_dense_rows(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()
