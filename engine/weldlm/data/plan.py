"""The packing plan: which tokens stand in which row, for the whole of a run.

Every epoch lays all documents end to end in an order drawn from (seed, epoch); the epochs follow
one another in one endless stream, which is cut into rows of row_length tokens. Nothing is padded
and nothing dropped: what is left of an epoch opens the next row. The rows of an epoch are drawn in
an order of their own, so that a batch does not hold neighboring pieces of one long document; a
row that lies in two epochs keeps its place. A token's epoch is its place divided by the tokens of
an epoch, so any row is found without reading those before it.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from weldlm.data.shards import TokenShards
from weldlm.memory import require_memory, step_bytes
from weldlm.packing import PackedBatch

__all__ = ["PackingPlan", "draw_order"]

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
        self._epochs: OrderedDict[int, tuple[Ints, Ints, Ints]] = OrderedDict()

    def rows(self, first: int, count: int) -> PackedBatch:
        """Returns the plan's rows `first` to `first + count`, end to end.

        Each piece of a document inside a row is a sequence of its own.

        Raises:
            ValueError: so many rows do not fit into memory.
        """
        return self.samples(first, count)[0]

    def samples(self, first: int, count: int) -> tuple[PackedBatch, Ints]:
        """Returns `rows`, and the sample id of each sequence: its place in the stream, [B]."""
        require_memory(
            step_bytes(count * self.row_length),
            f"a step of {count:,} rows of {self.row_length:,} tokens",
            advice="lower rows_per_step or row_length",
        )
        places = np.array(
            [self._place(row) * self.row_length for row in range(first, first + count)], np.int64
        )
        size = self.shards.num_tokens
        epochs = {*(places // size).tolist(), *((places + self.row_length - 1) // size).tolist()}
        if len(epochs) == 1:
            starts, lengths, ids = self._pieces_of_rows(places, *epochs)
        else:
            none = np.empty(0, dtype=np.int64)
            parts = [self.pieces(place, place + self.row_length) for place in places.tolist()]
            starts, lengths = (np.concatenate(p) for p in zip((none, none), *parts, strict=True))
            row_starts = np.repeat(places, [len(part[1]) for part in parts])
            ids = row_starts + _starts_in_rows([part[1] for part in parts])
        return self._batch(starts, lengths), ids

    def tokens(self, begin: int, end: int) -> PackedBatch:
        """Returns the stream's tokens [begin, end), cut where rows and documents end."""
        return self.samples_between(begin, end)[0]

    def samples_between(self, begin: int, end: int) -> tuple[PackedBatch, Ints]:
        """Returns `tokens`, and the sample id of each sequence: its place in the stream, [B]."""
        starts, lengths = self.pieces(begin, end)
        return self._batch(starts, lengths), begin + np.cumsum(lengths) - lengths

    def _batch(self, starts: Ints, lengths: Ints) -> PackedBatch:
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

    def _pieces_of_rows(self, places: Ints, epoch: int) -> tuple[Ints, Ints, Ints]:
        """Where each piece of the rows at `places`, all inside one epoch, starts in the shards, its
        length, and its place in the stream.
        """
        order, edges, _ = self._epoch(epoch)
        origin = epoch * self.shards.num_tokens
        begins = places - origin
        first = np.searchsorted(edges, begins, side="right")
        inner = np.searchsorted(edges, begins + self.row_length, side="left") - first
        row_starts = np.cumsum(inner + 1) - (inner + 1)
        cuts = np.empty(int((inner + 1).sum()), np.int64)
        is_row_start = np.zeros(len(cuts), bool)
        is_row_start[row_starts] = True
        cuts[row_starts] = begins
        shift = np.repeat(first - (np.cumsum(inner) - inner), inner)
        cuts[~is_row_start] = edges[shift + np.arange(len(shift))]
        ends = np.empty_like(cuts)
        ends[:-1] = cuts[1:]
        ends[row_starts + inner] = begins + self.row_length
        is_piece = ends > cuts  # empty documents leave none
        cuts, ends = cuts[is_piece], ends[is_piece]
        documents = np.searchsorted(edges, cuts, side="right") - 1
        starts = self.shards.offsets[order[documents]] + (cuts - edges[documents])
        return starts, ends - cuts, origin + cuts

    def _place(self, row: int) -> int:
        """The row's place in the stream."""
        size = self.shards.num_tokens
        epoch = row * self.row_length // size
        index = row - self._first_row(epoch)
        row_order = self._epoch(epoch)[2]
        return row - index + int(row_order[index]) if 0 <= index < len(row_order) else row

    def _first_row(self, epoch: int) -> int:
        """The first row that lies wholly in the epoch."""
        return -(-epoch * self.shards.num_tokens // self.row_length)

    def _pieces_of_epoch(self, epoch: int, begin: int, end: int) -> tuple[Ints, Ints]:
        """`pieces` for a range [begin, end) inside one epoch."""
        order, edges, _ = self._epoch(epoch)
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

    def _epoch(self, epoch: int) -> tuple[Ints, Ints, Ints]:
        """The documents in the order of the epoch, where each begins in it, with the end, and the
        order of the rows that lie wholly in it.
        """
        if epoch not in self._epochs:
            lengths = self.shards.lengths
            order = draw_order(len(lengths), self.seed, epoch, stream=0)
            end_row = (epoch + 1) * self.shards.num_tokens // self.row_length
            num_rows = max(end_row - self._first_row(epoch), 0)
            row_order = draw_order(num_rows, self.seed, epoch, stream=1)
            edges = np.zeros(len(lengths) + 1, dtype=np.int64)
            np.cumsum(lengths[order], out=edges[1:])
            self._epochs[epoch] = order, edges, row_order
            if len(self._epochs) > _EPOCHS_KEPT:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]


def draw_order(count: int, seed: int | None, epoch: int, *, stream: int) -> Ints:
    """A permutation that depends on the seed, epoch and stream alone.

    It sorts the raw output of a counter-based generator: numpy promises that this output never
    changes, which it does not for `Generator.permutation`.
    """
    if seed is None:
        return np.arange(count)
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, 0, 0, stream], np.uint64)
    keys = np.random.Philox(key=key, counter=counter).random_raw(count)
    return np.argsort(keys, kind="stable")


def _starts_in_rows(lengths: Sequence[Ints]) -> Ints:
    """Where each piece of each row starts in its row."""
    none = np.empty(0, dtype=np.int64)
    return np.concatenate([none, *(np.cumsum(part) - part for part in lengths)])
