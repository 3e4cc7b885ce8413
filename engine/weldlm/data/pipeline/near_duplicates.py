"""Texts that are nearly those that were there before, found by MinHash and bands of it.

The similarity of two texts is the share of their runs of five words that both have (Jaccard);
MinHash (Broder 1997) estimates it from signatures of 128 numbers, which rensa computes. Texts whose
signatures agree in a whole band are compared; bands are so many that of two texts as similar as
asked for, 99 of 100 pairs are. Bands are sorted one at a time, so that memory holds some tens of
bytes a document and the signatures lie on the disk, which the indexes of libraries do not do.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weldlm.data.cleaning.word_runs import (
    Hashes,
    hash_runs,
    hash_words,
    join_hashes,
    split_words,
)
from weldlm.data.pipeline.part_file import Part
from weldlm.extra_packages import require_extra

__all__ = ["find_near", "gather_signatures", "rows_of_band", "sign_texts"]

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Signatures = npt.NDArray[np.uint32]

_NUM_HASHES = 128
_RUN_WORDS = 5
_SEED = 1
_FOUND = 0.99  # of the pairs that are as similar as asked for
_NO_WORDS = np.iinfo(np.uint32).max  # the signature of a text without words


def sign_texts(texts: Sequence[str]) -> Signatures:
    """Returns the signatures of texts, [N, 128].

    Raises:
        ModuleNotFoundError: rensa is not installed.
    """
    library = require_extra("rensa", "data", "duplicates near")
    runs = [_runs(text) for text in texts]
    offsets = np.cumsum([0, *map(len, runs)], dtype=np.uint64)
    flat = np.concatenate([np.empty(0, np.uint64), *runs])
    matrix = library.RMinHash.digest_matrix_from_flat_token_hashes(
        flat, offsets, num_perm=_NUM_HASHES, seed=_SEED
    )
    return np.array(matrix.to_rows(), np.uint32).reshape(len(texts), _NUM_HASHES)


def gather_signatures(parts: Sequence[Part], path: Path) -> Signatures:
    """Returns the signatures of all parts, [N, 128], in a file that is mapped."""
    num_texts = sum(len(part.sizes) for part in parts)
    shape = (num_texts, _NUM_HASHES)
    if not num_texts:
        return np.empty(shape, np.uint32)
    signatures = np.lib.format.open_memmap(path, "w+", np.uint32, shape)
    begin = 0
    for part in parts:
        rows = part.signatures
        signatures[begin : begin + len(rows)] = rows
        begin += len(rows)
    return signatures


def find_near(signatures: Signatures, is_kept: Flags, similarity: float) -> Ints:
    """Returns the place of the first of the texts that resemble one another, [N].

    A text that resembles none has its own place. What resembles a text that resembles another is
    one with both.

    Args:
        signatures: [N, 128].
        is_kept: [N], the texts that are compared.
        similarity: least share of runs that two texts have in common.
    """
    clusters = _Clusters(len(signatures))
    rows = rows_of_band(similarity)
    places = np.flatnonzero(is_kept)
    places = places[(signatures[places, 0] != _NO_WORDS)] if len(places) else places
    for begin in range(0, _NUM_HASHES - rows + 1, rows):
        keys = _band_keys(signatures, places, begin, rows)
        for members in _groups(keys, places):
            _link(signatures, members, similarity, clusters)
    return clusters.firsts()


def rows_of_band(similarity: float) -> int:
    """The most numbers in a band such that pairs this similar agree in a band nearly always."""
    for rows in range(_NUM_HASHES, 1, -1):
        missed = (1 - similarity**rows) ** (_NUM_HASHES // rows)
        if 1 - missed >= _FOUND:
            return rows
    return 1


class _Clusters:
    """Places that were linked, each cluster named by its first one."""

    def __init__(self, size: int) -> None:
        self._parents = np.arange(size, dtype=np.int64)

    def find(self, place: int) -> int:
        parents = self._parents
        while (parent := int(parents[place])) != place:
            parents[place] = parents[parent]
            place = parent
        return place

    def link(self, place: int, other: int) -> None:
        first, second = sorted((self.find(place), self.find(other)))
        self._parents[second] = first

    def firsts(self) -> Ints:
        """The first place of each one's cluster, [N]."""
        parents = self._parents
        while (parents[parents] != parents).any():
            parents = parents[parents]
        return parents


def _runs(text: str) -> Hashes:
    words = hash_words(split_words(text))
    return hash_runs(words, min(_RUN_WORDS, max(len(words), 1)))


def _band_keys(signatures: Signatures, places: Ints, begin: int, rows: int) -> Hashes:
    keys = np.zeros(len(places), np.uint64)
    for column in range(begin, begin + rows):
        keys = join_hashes(keys, signatures[places, column].astype(np.uint64))
    return keys


def _groups(keys: Hashes, places: Ints) -> Iterator[Ints]:
    """The places whose keys are equal, where there are two or more."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    begins = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [len(order)]])
    is_shared = ends - begins > 1
    for begin, end in zip(begins[is_shared].tolist(), ends[is_shared].tolist(), strict=True):
        yield places[order[begin:end]]


def _link(signatures: Signatures, members: Ints, similarity: float, clusters: _Clusters) -> None:
    """Links each member with the first one that it resembles."""
    rows = np.asarray(signatures[members])
    while len(members) > 1:
        is_near = (rows[1:] == rows[0]).mean(axis=1) >= similarity
        for place in members[1:][is_near].tolist():
            clusters.link(int(members[0]), place)
        members, rows = members[1:][~is_near], rows[1:][~is_near]
