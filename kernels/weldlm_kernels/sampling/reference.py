"""What sampling means, in plain PyTorch: penalties, filters on the sorted tokens, a draw.

Top-p: Holtzman et al. 2019 (arXiv:1904.09751); min-p: Nguyen et al. 2024 (arXiv:2407.01082);
repetition penalty: Keskar et al. 2019 (arXiv:1909.05858).
"""

import torch
from torch import Tensor

from weldlm_kernels.sampling.arithmetic import (
    exponentials,
    exponents,
    mass,
    power_of_two,
    relative_weights,
)

__all__ = ["count_tokens", "kept_tokens", "penalize", "sample"]


def penalize(
    logits: Tensor, counts: Tensor, repetition: Tensor, presence: Tensor, frequency: Tensor
) -> Tensor:
    """Lowers the logits [B, vocab_size] of tokens that were there, by their counts; fp32."""
    logits, was_there = logits.float(), counts > 0
    factor = repetition[:, None]
    repeated = torch.where(logits > 0, logits / factor, logits * factor)
    scores = torch.where(was_there, repeated, logits)
    scores = scores - frequency[:, None] * counts.float()
    return scores - presence[:, None] * was_there.float()


def count_tokens(history_ids: Tensor, history_offsets: Tensor, vocab_size: int) -> Tensor:
    """How often each token stands in each row's history, [B, vocab_size] int32."""
    ends = history_offsets[1:].long()
    place = torch.arange(history_ids.shape[0], device=history_ids.device)
    row = torch.searchsorted(ends, place, right=True)
    counts = torch.zeros(ends.shape[0] * vocab_size, dtype=torch.int32, device=ends.device)
    ones = torch.ones_like(place, dtype=torch.int32)
    return counts.scatter_add(0, row * vocab_size + history_ids, ones).view(-1, vocab_size)


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
    """The kept token of the lowest exponential number / weight, and its log_softmax(logits).

    `scores` are the logits after penalties, None where there are none.
    """
    scores = logits.float() if scores is None else scores
    exponent = exponents(scores, temperature)
    is_kept = kept_tokens(scores, temperature, top_k, top_p, min_p)
    is_kept &= relative_weights(exponent) > 0
    costs = exponentials(seeds, positions, scores.shape[1]) * power_of_two(-exponent)
    drawn = torch.where(is_kept, -costs, -torch.inf).max(dim=-1).indices
    ids = torch.where(temperature > 0, drawn, scores.max(dim=-1).indices)
    logprobs = logits.float().log_softmax(dim=-1).gather(-1, ids[:, None]).squeeze(-1)
    return torch.where(logprobs.isnan(), 0, ids), logprobs


def kept_tokens(
    scores: Tensor,
    temperature: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> Tensor:
    """Which tokens the filters keep, [B, vocab_size] bool; `scores` is fp32."""
    descending, order = scores.sort(dim=-1, descending=True, stable=True)
    weights = relative_weights(exponents(descending, temperature))
    is_kept = torch.ones_like(descending, dtype=torch.bool)
    if top_k is not None:
        last = (top_k.long() - 1).clamp(0, scores.shape[1] - 1)
        is_kept = descending >= descending.gather(-1, last[:, None])
        is_kept |= (top_k <= 0)[:, None]
    if top_p is not None:
        masses = torch.where(is_kept, mass(weights), 0)
        total = masses.cumsum(dim=-1)
        first_equal = torch.searchsorted(-descending, -descending).clamp(max=scores.shape[1] - 1)
        higher = (total - masses).gather(-1, first_equal)
        # fp64: a product that both sides round alike
        bound = (top_p.double()[:, None] * total[:, -1:].double()).ceil().long().clamp(min=1)
        is_kept &= (higher < bound) | (top_p >= 1)[:, None]
    if min_p is not None:
        is_kept &= weights >= min_p[:, None]
    return torch.zeros_like(is_kept).scatter(-1, order, is_kept)
