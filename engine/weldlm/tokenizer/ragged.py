"""Ids of several texts in the engine's packed layout."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RaggedIds"]


@dataclass(frozen=True, slots=True, eq=False)
class RaggedIds:
    """Ids of several texts end to end: those of text i are ids[offsets[i]:offsets[i + 1]]."""

    ids: NDArray[np.uint32]  # [ids]
    offsets: NDArray[np.int64]  # [texts + 1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint32]:
        """The ids of one text, without a copy."""
        i = range(len(self))[index]
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[NDArray[np.uint32]]:
        return (self[i] for i in range(len(self)))

    def surrounded(self, before: tuple[int, ...], after: tuple[int, ...]) -> "RaggedIds":
        """The same texts, each with these ids around it."""
        num_added = len(before) + len(after)
        if num_added == 0:
            return self
        lengths = np.diff(self.offsets)
        offsets = self.offsets + num_added * np.arange(len(self.offsets))
        ids = np.empty(offsets[-1], dtype=self.ids.dtype)
        starts, ends = offsets[:-1] + len(before), offsets[1:] - len(after)
        inside = np.repeat(starts - self.offsets[:-1], lengths) + np.arange(len(self.ids))
        ids[inside] = self.ids
        for place, token_id in enumerate(before):
            ids[offsets[:-1] + place] = token_id
        for place, token_id in enumerate(after):
            ids[ends + place] = token_id
        return RaggedIds(ids, offsets)
