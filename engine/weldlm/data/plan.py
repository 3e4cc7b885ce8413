"""The packing plan: which tokens stand in which row, for the whole of a run.

Every epoch lays all documents end to end in an order drawn from (seed, epoch); the epochs follow
one another in one endless stream, and row r is the stream's tokens [r * row_length,
(r + 1) * row_length). Nothing is padded and nothing dropped: what is left of an epoch opens the
next row. A token's epoch is its place divided by the tokens of an epoch, so any row is found
without reading those before it.
"""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import torch

from weldlm.data.shards import TokenShards
from weldlm.packing import PackedBatch

__all__ = ["PackingPlan"]

Ints = npt.NDArray[np.int64]

_EPOCHS_KEPT = 2  # a step may begin in one epoch and end in the next


class PackingPlan:
    """Rows of packed documents; the same for every micro-batch size."""

    def __init__(self, shards: TokenShards, *, row_length: int, seed: int | None) -> None:
        """Plans the rows of `shards`.

        Args:
            shards: the documents.
            row_length: tokens of a row, and the most in one sequence.
            seed: draws the order of the documents; they keep theirs where None.
        """
        if row_length < 2:
            raise ValueError(f"row_length is {row_length}; expected at least 2 tokens")
        if seed is not None and not 0 <= seed < 1 << 63:
            raise ValueError(f"seed is {seed}; expected 0 to 2**63 - 1")
        self.shards = shards
        self.row_length = row_length
        self.seed = seed
        self._epochs: OrderedDict[int, tuple[Ints, Ints]] = OrderedDict()

    def rows(self, first: int, count: int) -> PackedBatch:
        """Returns rows `first` to `first + count` of the endless stream.

        Each piece of a document inside a row is a sequence of its own.
        """
        return self.tokens(first * self.row_length, (first + count) * self.row_length)

    def tokens(self, begin: int, end: int) -> PackedBatch:
        """Returns the stream's tokens [begin, end), cut where rows and documents end."""
        starts, lengths = self.pieces(begin, end)
        ids = torch.from_numpy(self.shards.gather(starts, lengths))
        return PackedBatch.from_lengths(ids, lengths.tolist())

    def pieces(self, begin: int, end: int) -> tuple[Ints, Ints]:
        """Returns where each piece of [begin, end) starts in the shards, and its length."""
        size = self.shards.num_tokens
        parts = [
            self._pieces_of_epoch(epoch, max(begin, epoch * size), min(end, (epoch + 1) * size))
            for epoch in range(begin // size, -(-end // size))
        ]
        none = np.empty(0, dtype=np.int64)
        starts, lengths = zip((none, none), *parts, strict=True)
        return np.concatenate(starts), np.concatenate(lengths)

    def _pieces_of_epoch(self, epoch: int, begin: int, end: int) -> tuple[Ints, Ints]:
        """`pieces` for a range [begin, end) inside one epoch."""
        order, edges = self._epoch(epoch)
        origin = epoch * self.shards.num_tokens
        first_row_edge = -(-begin // self.row_length) * self.row_length
        row_edges = np.arange(first_row_edge, end, self.row_length) - origin
        begin, end = begin - origin, end - origin
        first, last = np.searchsorted(edges, [begin, end], side="left")
        ends = np.array([begin, end])
        cuts: Ints = np.unique(np.concatenate([edges[first:last], row_edges, ends]))
        places = np.searchsorted(edges, cuts[:-1], side="right") - 1  # skips empty documents
        starts = self.shards.offsets[order[places]] + (cuts[:-1] - edges[places])
        return starts, np.diff(cuts)

    def _epoch(self, epoch: int) -> tuple[Ints, Ints]:
        """The documents in the order of the epoch, and where each begins in it, with the end."""
        if epoch not in self._epochs:
            lengths = self.shards.lengths
            order = _draw_order(len(lengths), self.seed, epoch)
            edges = np.zeros(len(lengths) + 1, dtype=np.int64)
            np.cumsum(lengths[order], out=edges[1:])
            self._epochs[epoch] = order, edges
            if len(self._epochs) > _EPOCHS_KEPT:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]


def _draw_order(count: int, seed: int | None, epoch: int) -> Ints:
    """A permutation that depends on the seed and epoch alone.

    It sorts the raw output of a counter-based generator: numpy promises that this output never
    changes, which it does not for `Generator.permutation`.
    """
    if seed is None:
        return np.arange(count)
    keys = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(count)
    return np.argsort(keys, kind="stable")
