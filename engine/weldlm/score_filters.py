"""Filters: which tokens may be drawn, as the warpers of transformers leave them."""

import math

import torch
from torch import Tensor

from weldlm.sampling_settings import SamplingSettings

__all__ = ["filter_scores"]

_NUM_CANDIDATES = 1_024  # of top-p, before all of a large vocabulary are sorted


def filter_scores(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """Divides logits [B, vocab_size] by the temperature and drops what the filters do not keep.

    The filters follow each other as in transformers: top-k, top-p, min-p, typical-p.

    Returns:
        scores [B, vocab_size] fp32, -infinity where dropped.
    """
    scores = logits.float() / settings.temperature
    vocab_size = scores.shape[-1]
    if 0 < settings.top_k < vocab_size:
        kept, ids = _keep_top_k(scores, settings.top_k)
        kept = _keep_top_p(kept, settings.top_p)
        scores = torch.full_like(scores, -math.inf).scatter_(-1, ids, kept)
    elif settings.top_p < 1:
        scores = _keep_top_p_of_many(scores, settings.top_p)
    if settings.min_p > 0:
        lowest = scores.amax(dim=-1, keepdim=True) + math.log(settings.min_p)
        scores = scores.masked_fill(scores < lowest, -math.inf)
    if settings.typical_p < 1:
        scores = _keep_typical(scores, settings.typical_p)
    return scores


def _keep_top_k(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Narrows [B, vocab_size] to the k highest and all that equal the lowest of them.

    Returns:
        scores [B, C], -infinity where a row keeps fewer than C, and their ids [B, C], ascending.
    """
    lowest = scores.topk(top_k, dim=-1).values[:, -1:]
    width = int((scores >= lowest).sum(dim=-1).max())
    # the minimum of C is k: a row of NaN counts no token, and is reported by the caller
    ids = scores.topk(max(width, top_k), dim=-1).indices.sort(dim=-1).values
    scores = scores.gather(-1, ids)
    return scores.masked_fill(scores < lowest, -math.inf), ids


def _keep_top_p(scores: Tensor, top_p: float, rest: Tensor | float = 0.0) -> Tensor:
    """Drops the least probable tokens of [B, C] that together have at most 1 - top_p.

    Args:
        scores: of all tokens, or of all but those that have the probability `rest`.
        top_p: what the others reach.
        rest: [B, 1] fp64, dropped already.
    """
    if top_p == 1:
        return scores
    ascending, order = scores.sort(dim=-1, stable=True)
    # fp64: a sum over a large vocabulary in fp32 loses the small probabilities
    cumulative = ascending.double().softmax(dim=-1).cumsum(dim=-1) * (1 - rest) + rest
    is_dropped = cumulative <= 1 - top_p
    is_dropped[:, -1] = False
    return scores.masked_fill(is_dropped.scatter(-1, order, is_dropped), -math.inf)


def _keep_top_p_of_many(scores: Tensor, top_p: float) -> Tensor:
    """The same without sorting a vocabulary of which few tokens have nearly all probability."""
    if scores.shape[-1] <= 2 * _NUM_CANDIDATES:
        return _keep_top_p(scores, top_p)
    kept, ids = _keep_top_k(scores, _NUM_CANDIDATES)
    total = scores.double().logsumexp(dim=-1, keepdim=True)
    rest = 1 - (kept.double().logsumexp(dim=-1, keepdim=True) - total).exp()
    # a row whose rest is not dropped as a whole; NaN as well
    if not bool((rest < 1 - top_p).all()):
        return _keep_top_p(scores, top_p)
    kept = _keep_top_p(kept, top_p, rest.clamp(min=0.0))
    return torch.full_like(scores, -math.inf).scatter_(-1, ids, kept)


def _keep_typical(scores: Tensor, typical_p: float) -> Tensor:
    """Keeps the tokens whose information is nearest to the expected one, up to `typical_p`.

    Meister et al. 2022 (arXiv:2202.00666): by | -log p - H |, H the entropy of the row.
    """
    log_p = scores.log_softmax(dim=-1)
    entropy = -(log_p * log_p.exp()).nansum(dim=-1, keepdim=True)
    distance, order = (-log_p - entropy).abs().sort(dim=-1, stable=True)
    reached = scores.gather(-1, order).double().softmax(dim=-1).cumsum(dim=-1)
    last = (reached < typical_p).sum(dim=-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
    is_dropped = distance > distance.gather(-1, last)
    return scores.masked_fill(is_dropped.scatter(-1, order, is_dropped), -math.inf)
