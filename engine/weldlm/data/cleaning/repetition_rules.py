"""Gopher's rules about what recurs in a text, with the bounds of its table A1."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from weldlm.data.cleaning.word_runs import Hashes, hash_runs, hash_words

__all__ = [
    "refuse_repeated_lines",
    "refuse_repeated_ngrams",
    "refuse_repeated_paragraphs",
    "refuse_top_ngrams",
    "repeated_share",
    "top_share",
]

Ints = npt.NDArray[np.int64]

_PARAGRAPH = re.compile(r"\n{2,}")
_MOST_PIECES, _MOST_CHARACTERS = 0.3, 0.2  # of lines or paragraphs, and of what stands in them
_MOST_IN_TOP = {2: 0.2, 3: 0.18, 4: 0.16}  # of the characters, by the words of a run
_MOST_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}


def refuse_repeated_lines(text: str) -> str | None:
    """3 of 10 lines, or lines with a fifth of the characters, stand there before."""
    return None if _recurs(text.split("\n")) else text


def refuse_repeated_paragraphs(text: str) -> str | None:
    """The same of paragraphs."""
    return None if _recurs(_PARAGRAPH.split(text)) else text


def refuse_top_ngrams(text: str) -> str | None:
    """The most frequent run of 2, 3 or 4 words makes up a fifth of the text or nearly so."""
    words = text.split()
    hashes, lengths = hash_words(words), _lengths(words)
    shares = {n: top_share(hashes, lengths, n) for n in _MOST_IN_TOP}
    return None if any(shares[n] > most for n, most in _MOST_IN_TOP.items()) else text


def refuse_repeated_ngrams(text: str) -> str | None:
    """Runs of 5 to 10 words that occur twice or more make up a seventh of the text or so."""
    words = text.split()
    hashes, lengths = hash_words(words), _lengths(words)
    shares = {n: repeated_share(hashes, lengths, n) for n in _MOST_REPEATED}
    return None if any(shares[n] > most for n, most in _MOST_REPEATED.items()) else text


def top_share(words: Hashes, lengths: Ints, length: int) -> float:
    """The share of the characters that the most frequent run of words has; 0 if none recurs."""
    runs = hash_runs(words, length)
    if not len(runs):
        return 0.0
    _, firsts, counts = np.unique(runs, return_index=True, return_counts=True)
    if counts.max() == 1:
        return 0.0
    sizes = np.convolve(lengths, np.ones(length, np.int64), "valid")[firsts]
    is_top = counts == counts.max()
    return float((counts * sizes)[is_top].max() / lengths.sum())


def repeated_share(words: Hashes, lengths: Ints, length: int) -> float:
    """The share of the characters that stand in any run of words that recurs."""
    runs = hash_runs(words, length)
    if not len(runs):
        return 0.0
    _, places, counts = np.unique(runs, return_inverse=True, return_counts=True)
    edges = np.zeros(len(words) + 1, np.int64)
    starts = np.flatnonzero(counts[places] > 1)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + length, -1)
    return float(lengths[np.cumsum(edges)[:-1] > 0].sum() / lengths.sum())


def _recurs(pieces: Sequence[str]) -> bool:
    pieces = [piece.strip() for piece in pieces if piece.strip()]
    again = {piece: count - 1 for piece, count in Counter(pieces).items() if count > 1}
    num_again = sum(again.values())
    characters = sum(len(piece) * count for piece, count in again.items())
    return num_again > _MOST_PIECES * len(pieces) or characters > _MOST_CHARACTERS * sum(
        map(len, pieces)
    )


def _lengths(words: list[str]) -> Ints:
    return np.fromiter(map(len, words), np.int64, len(words))
