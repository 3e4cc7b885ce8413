"""Ids of several texts in the engine's packed layout."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RaggedIds"]


@dataclass(frozen=True, slots=True, eq=False)
class RaggedIds:
    """Ids of several texts end to end: those of text i are ids[offsets[i]:offsets[i + 1]]."""

    ids: NDArray[np.uint32] | NDArray[np.uint16]  # [ids]
    offsets: NDArray[np.int64]  # [texts + 1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint32] | NDArray[np.uint16]:
        """The ids of one text, without a copy."""
        i = range(len(self))[index]
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[NDArray[np.uint32] | NDArray[np.uint16]]:
        return (self[i] for i in range(len(self)))
