"""BeamSearch: of many continuations the few most probable ones, as transformers chooses them.

Each step takes the best continuations of all beams. Those that end are finished beams, compared by
log-probability / length ** length_penalty; the others go on. Arithmetic is fp32.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from weldlm.completion import FinishReason
from weldlm.sampling_settings import SamplingSettings

__all__ = ["Beam", "BeamSearch", "Choice"]

HasStopText = Callable[[Sequence[int]], bool] | None

_NEVER = np.float32(-1e9)  # a score that no beam has, as in transformers


@dataclass(frozen=True, slots=True)
class Beam:
    """A beam that has ended."""

    ids: tuple[int, ...]  # with those that it began with
    score: float
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Choice:
    """How a beam goes on."""

    parent: int  # the beam that it continues
    token_id: int


class BeamSearch:
    """The beams of one prompt, but for their tokens and their places in the cache."""

    def __init__(
        self,
        settings: SamplingSettings,
        *,
        stop_ids: Collection[int],
        num_first: int,
        max_length: int,
    ) -> None:
        self.finished: list[Beam] = []  # best first
        self._settings, self._stop_ids = settings, frozenset(stop_ids)
        self._num_first, self._max_length = num_first, max_length
        # all beams begin alike: but for one of them they would take the same tokens
        self._scores = np.full(settings.num_beams, _NEVER)
        self._scores[0] = 0.0

    def advance(
        self, log_probabilities: Tensor, beams: Sequence[Sequence[int]], has_stop_text: HasStopText
    ) -> list[Choice]:
        """Chooses how the beams go on.

        Args:
            log_probabilities: [num_beams, vocab_size] fp32, of the token after each beam.
            beams: their tokens, all of one length.
            has_stop_text: says whether a sequence ends with a stop text; None where there is none.

        Returns:
            one choice for each beam of the next step; none if the search is over.
        """
        num_beams = self._settings.num_beams
        running = torch.from_numpy(self._scores).to(log_probabilities.device)
        scores = (log_probabilities + running.unsqueeze(1)).flatten()
        num_kept = min(max(2, 1 + len(self._stop_ids)) * num_beams, len(scores))
        best, places = scores.topk(num_kept)
        vocab_size = log_probabilities.shape[1]
        found = [Choice(*divmod(place, vocab_size)) for place in places.tolist()]
        candidates: np.ndarray = best.cpu().numpy()
        length = len(beams[0]) + 1
        reasons = [
            self._reason((*beams[choice.parent], choice.token_id), has_stop_text)
            for choice in found
        ]
        has_ended = np.array([reason is not None for reason in reasons])
        self._finish(candidates[:num_beams], found, reasons, beams)

        candidates = candidates + has_ended.astype(np.float32) * _NEVER
        order = np.argsort(-candidates, kind="stable")[:num_beams]
        self._scores = candidates[order]
        if has_ended.all() or self._is_over(length - self._num_first):
            return []
        return [found[place] for place in order]

    def _reason(self, ids: Sequence[int], has_stop_text: HasStopText) -> FinishReason | None:
        if ids[-1] in self._stop_ids or (has_stop_text is not None and has_stop_text(ids)):
            return "stop"
        return "length" if len(ids) >= self._max_length else None

    def _finish(
        self,
        scores: np.ndarray,
        found: Sequence[Choice],
        reasons: Sequence[FinishReason | None],
        beams: Sequence[Sequence[int]],
    ) -> None:
        """Keeps the best of the finished beams and of those that end now."""
        if self._settings.early_stopping is True and self._is_full:
            return
        new_length = len(beams[0]) + 1 - self._num_first
        values = scores / np.float32(new_length**self._settings.length_penalty)
        ended = [
            Beam((*beams[choice.parent], choice.token_id), float(value), reason)
            for value, choice, reason in zip(values, found, reasons, strict=False)
            if reason is not None
        ]
        ranked = sorted([*self.finished, *ended], key=lambda beam: -beam.score)
        self.finished = ranked[: self._settings.num_beams]

    @property
    def _is_full(self) -> bool:
        return len(self.finished) == self._settings.num_beams

    def _is_over(self, new_length: int) -> bool:
        """Whether no beam under way can still come among the finished ones."""
        if not self._is_full:
            return False
        settings = self._settings
        if settings.early_stopping is True:
            return True
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            new_length = self._max_length - self._num_first
        best = self._scores[0] / np.float32(new_length**settings.length_penalty)
        return bool(best <= np.float32(self.finished[-1].score))
