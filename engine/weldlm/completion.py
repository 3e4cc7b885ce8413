"""Completion: what a model made of a prompt."""

from dataclasses import dataclass
from typing import Literal

from weldlm.token_logprobs import TokenLogprob

__all__ = ["Completion", "FinishReason"]

# an end-of-sequence token or stop text; max_tokens; the model's context is full
FinishReason = Literal["stop", "length", "context"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model made of a prompt."""

    text: str  # without the end-of-sequence token or stop text
    ids: tuple[int, ...]  # every new token, with those that ended the sequence
    finish_reason: FinishReason
    num_prompt_tokens: int
    score: float | None = None  # of a beam, or the summed log-probability where best_of chose it
    logprobs: tuple[TokenLogprob, ...] | None = None  # of `ids`, where asked for
    # of the prompt's tokens but the first, which follows nothing, where asked for
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    others: tuple["Completion", ...] = ()  # where n is above 1, in order of samples or scores
