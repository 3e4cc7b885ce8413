"""Log-probabilities of tokens, by the model's own scores: before rules, temperature and filters."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["TokenLogprob", "token_logprobs"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and what else could have stood at its place."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # the most probable ids, best first


def token_logprobs(logits: Tensor, ids: Sequence[int], num_top: int) -> list[TokenLogprob]:
    """Looks up one token of each row of logits [R, vocab_size]; the arithmetic is fp32."""
    scores = logits.float().log_softmax(dim=-1)
    at = torch.tensor(ids, dtype=torch.int64, device=scores.device).unsqueeze(1)
    chosen: list[float] = scores.gather(1, at).squeeze(1).tolist()
    if num_top == 0:
        return [TokenLogprob(*pair) for pair in zip(ids, chosen, strict=True)]
    best = scores.topk(min(num_top, scores.shape[1]), dim=-1)
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        TokenLogprob(token_id, logprob, tuple(zip(*top, strict=True)))
        for token_id, logprob, top in zip(ids, chosen, tops, strict=True)
    ]
