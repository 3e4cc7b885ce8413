"""Runs of n words as numbers: equal runs have equal numbers, in every process."""

import re
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

__all__ = ["Hashes", "hash_runs", "hash_words", "join_hashes", "split_words"]

Hashes = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing


def split_words(text: str) -> list[str]:
    """The words of a text without case and punctuation."""
    return _WORD.findall(text.lower())


def hash_words(words: list[str]) -> Hashes:
    """Returns a number for each word, [N]."""
    return np.fromiter(map(_hash, words), np.uint64, len(words))


def hash_runs(words: Hashes, length: int) -> Hashes:
    """Returns a number for each run of `length` words, [N - length + 1] or none.

    h(w_1 .. w_n) = sum of w_i * factor^(n - i), modulo 2^64, with the upper half mixed in.
    """
    num_runs = max(len(words) - length + 1, 0)
    total = np.zeros(num_runs, np.uint64)
    for begin in range(length):
        total = total * _FACTOR + words[begin : begin + num_runs]
    return _stir(total)


def join_hashes(first: Hashes, second: Hashes) -> Hashes:
    """Returns a number for each pair, [N]."""
    return _stir(first * _FACTOR + second)


def _stir(numbers: Hashes) -> Hashes:
    return (numbers ^ (numbers >> np.uint64(32))) * _FACTOR


@lru_cache(maxsize=1 << 17)
def _hash(word: str) -> int:
    digest = blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
