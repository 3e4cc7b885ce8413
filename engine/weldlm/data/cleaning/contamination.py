"""Texts of evaluation sets, which a model must not have seen.

A text is contaminated where it has n words in a row in common with one of an evaluation set
(Brown et al. 2020, arXiv:2005.14165, C: n is 13). An evaluation text of fewer words counts as one
run of its own length; one of fewer than five is in too many texts by chance, and is passed over.
"""

from collections.abc import Iterable

import numpy as np

from weldlm.data.cleaning.word_runs import Hashes, hash_runs, hash_words, split_words

__all__ = ["EvaluationTexts"]

_FEWEST_WORDS = 5


class EvaluationTexts:
    """The runs of words in evaluation sets."""

    def __init__(self, texts: Iterable[str], length: int) -> None:
        """Reads the texts.

        Args:
            texts: of the sets.
            length: words in a run.
        """
        runs: dict[int, list[Hashes]] = {}
        for text in texts:
            words = split_words(text)
            own = min(length, len(words))
            if own >= min(_FEWEST_WORDS, length):
                runs.setdefault(own, []).append(hash_runs(hash_words(words), own))
        self._runs = {own: np.unique(np.concatenate(hashes)) for own, hashes in runs.items()}

    def refuse_known(self, text: str) -> str | None:
        """The text, unless it has a run in common with an evaluation set."""
        words = hash_words(split_words(text))
        for length, known in self._runs.items():
            runs = hash_runs(words, length)
            places = np.minimum(np.searchsorted(known, runs), len(known) - 1)
            if (known[places] == runs).any():
                return None
        return text
