"""TokenRules: changes to the scores that depend on the tokens a sequence has.

Order and meaning are those of transformers' processors; presence and frequency penalties, which it
does not have, are those of vLLM and the OpenAI API: they count new tokens only.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

__all__ = ["TokenRules"]


class TokenRules:
    """The rules of one request."""

    def __init__(
        self,
        settings: SamplingSettings,
        *,
        stop_ids: Collection[int],
        vocab_size: int,
        tokenizer: Tokenizer | None,
    ) -> None:
        """Checks and prepares the rules.

        Args:
            settings: names them.
            stop_ids: tokens that end a sequence, which `min_tokens` holds back.
            vocab_size: number of scores.
            tokenizer: spells `bad_words`.

        Raises:
            ValueError: a rule names an id that there is not, or words without a tokenizer.
        """
        if settings.bad_words and tokenizer is None:
            raise ValueError(
                f"bad_words is {settings.bad_words!r}, but there is no tokenizer; use bad_ids"
            )
        self._settings = settings
        self._stop_ids = sorted(stop_ids)
        runs = [*settings.bad_ids, *_spellings(settings.bad_words, tokenizer)]
        self._bad_ids = sorted({run[0] for run in runs if len(run) == 1})
        self._bad_runs = [np.array(run) for run in runs if len(run) > 1]
        self._bias_ids = [token_id for token_id, _ in settings.logit_bias]
        self._biases = [bias for _, bias in settings.logit_bias]
        for name, ids in (
            ("logit_bias", self._bias_ids),
            ("allowed_ids", settings.allowed_ids),
            ("bad_ids", [token_id for run in runs for token_id in run]),
        ):
            if max(ids, default=0) >= vocab_size:
                raise ValueError(
                    f"{name} has the id {max(ids)}; expected 0 to {vocab_size - 1}, the model's "
                    "vocabulary"
                )

    @property
    def is_empty(self) -> bool:
        """Whether scores stay as they are."""
        settings = self._settings
        return not (
            self._bias_ids
            or settings.repetition_penalty != 1
            or settings.presence_penalty
            or settings.frequency_penalty
            or settings.no_repeat_ngram
            or self._bad_ids
            or self._bad_runs
            or settings.min_tokens
            or settings.allowed_ids
        )

    def apply(self, scores: Tensor, ids: Sequence[int], num_first: int) -> None:
        """Changes `scores` [vocab_size] fp32 of the token behind `ids`.

        Args:
            scores: mutated.
            ids: the sequence; the prompt too, where there is no encoder to read it.
            num_first: how many of them are not new.
        """
        settings, tokens = self._settings, np.asarray(ids, dtype=np.int64)
        if self._bias_ids:
            scores[self._bias_ids] += torch.tensor(self._biases, device=scores.device)
        if settings.repetition_penalty != 1:
            _penalize_repetition(scores, tokens, settings.repetition_penalty)
        if settings.presence_penalty or settings.frequency_penalty:
            seen, counts = np.unique(tokens[num_first:], return_counts=True)
            weight = settings.frequency_penalty * counts + settings.presence_penalty
            at = torch.from_numpy(seen).to(scores.device)
            scores[at] -= torch.from_numpy(weight.astype(np.float32)).to(scores.device)
        banned = [*self._bad_ids, *self._ends_of_runs(tokens)]
        if settings.no_repeat_ngram:
            banned += _repeating(tokens, settings.no_repeat_ngram).tolist()
        if len(tokens) - num_first < settings.min_tokens:
            banned += self._stop_ids
        if banned:
            scores[banned] = -math.inf
        if settings.allowed_ids:
            allowed = list(settings.allowed_ids)
            kept = scores[allowed]
            scores.fill_(-math.inf)
            scores[allowed] = kept

    def _ends_of_runs(self, tokens: np.ndarray) -> list[int]:
        """The last ids of those runs whose others end the sequence."""
        return [
            int(run[-1])
            for run in self._bad_runs
            if len(tokens) >= len(run) - 1
            and np.array_equal(tokens[len(tokens) - len(run) + 1 :], run[:-1])
        ]


def _penalize_repetition(scores: Tensor, tokens: np.ndarray, penalty: float) -> None:
    """Keskar et al. 2019 (arXiv:1909.05858), section 4.1, with the sign of transformers."""
    at = torch.from_numpy(np.unique(tokens)).to(scores.device)
    seen = scores[at]
    scores[at] = torch.where(seen < 0, seen * penalty, seen / penalty)


def _repeating(tokens: np.ndarray, size: int) -> np.ndarray:
    """Ids that would make the last `size` tokens a run that occurred."""
    if len(tokens) < size:
        return tokens[:0]
    runs = sliding_window_view(tokens, size)
    last = tokens[len(tokens) - size + 1 :]
    ends: np.ndarray = runs[(runs[:, :-1] == last).all(axis=1), -1]
    return ends


def _spellings(words: Sequence[str], tokenizer: Tokenizer | None) -> list[tuple[int, ...]]:
    """The ids of each word where a text begins with it, and where it follows a space."""
    if tokenizer is None:
        return []
    texts = [spelling for word in words for spelling in (word, f" {word.lstrip()}")]
    return [ids for ids in dict.fromkeys(tuple(tokenizer.encode(text)) for text in texts) if ids]
