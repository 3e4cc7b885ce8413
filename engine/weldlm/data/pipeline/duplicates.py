"""Texts that occur more than once: the first one stays."""

import numpy as np
import numpy.typing as npt

__all__ = ["Ints", "find_exact"]

Ints = npt.NDArray[np.int64]


def find_exact(digests: npt.NDArray[np.uint64]) -> Ints:
    """Returns the place of the first text with the same hash, [N]; its own where that is it.

    Args:
        digests: [N, 2], hashes of the texts in the order of the corpus.
    """
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # equal ones stay in their order
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (digests[order[1:]] != digests[order[:-1]]).any(axis=1)
    originals = np.empty(len(order), np.int64)
    originals[order] = order[is_first][np.cumsum(is_first) - 1]
    return originals
