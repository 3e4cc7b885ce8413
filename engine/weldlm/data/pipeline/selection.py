"""Which documents of the cleaned parts are learned from, and which are kept for validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weldlm.data.cleaning import StepCount
from weldlm.data.cleaning.tally import Sample, rank_of
from weldlm.data.pipeline.duplicates import Ints, find_exact
from weldlm.data.pipeline.near_duplicates import find_near, gather_signatures
from weldlm.data.pipeline.part_file import Part
from weldlm.data.pipeline.settings import DataSettings

__all__ = ["Selection", "select_documents"]

_SIGNATURES = "signatures.npy"

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Selection:
    """The documents that stay, as flags over all of the parts."""

    parts: Sequence[Part]
    starts: Ints  # [parts + 1], of each part in the corpus
    is_train: Flags  # [N]
    is_valid: Flags  # [N]
    duplicates: dict[str, StepCount]  # what was removed, by the name of the step

    @property
    def is_one_document(self) -> bool:
        """Whether a single document stays, whose end can be kept for validation."""
        return int(self.is_train.sum() + self.is_valid.sum()) == 1

    def of_part(self, flags: Flags, index: int) -> Flags:
        """The flags of one part."""
        return flags[self.starts[index] : self.starts[index + 1]]


def select_documents(parts: Sequence[Part], settings: DataSettings, folder: Path) -> Selection:
    """Removes duplicates, and splits the rest by the hash of the text.

    A text falls on the same side whatever else the corpus holds.

    Args:
        parts: of the corpus.
        settings: how.
        folder: takes what does not fit into memory for a while.
    """
    digests = [part.digests for part in parts]
    starts = np.cumsum([0, *map(len, digests)], dtype=np.int64)
    hashes = np.concatenate([np.empty((0, 2), np.uint64), *digests])
    is_kept = np.ones(len(hashes), np.bool_)
    counts: dict[str, StepCount] = {}
    if settings.duplicates != "keep":
        originals = find_exact(hashes)
        is_kept &= originals == np.arange(len(hashes))
        counts["exact_duplicates"] = _count(parts, starts, originals)
    if settings.is_signed:
        path = folder / _SIGNATURES
        originals = find_near(gather_signatures(parts, path), is_kept, settings.similarity)
        path.unlink(missing_ok=True)
        is_kept &= originals == np.arange(len(hashes))
        counts["near_duplicates"] = _count(parts, starts, originals)
    is_held_out = hashes[:, 0] < np.uint64(int(settings.held_out * 2**64))
    return Selection(parts, starts, is_kept & ~is_held_out, is_kept & is_held_out, counts)


def _count(parts: Sequence[Part], starts: Ints, originals: Ints) -> StepCount:
    """Counts the documents that have another in their place, with samples."""
    count = StepCount()
    is_gone = originals != np.arange(len(originals))
    for index, part in enumerate(parts):
        gone = is_gone[starts[index] : starts[index + 1]]
        if not gone.any():
            continue
        names = part.names()
        for place, text in zip(np.flatnonzero(gone).tolist(), part.texts(gone), strict=True):
            count.removed += 1
            count.characters += len(text)
            if count.wants(rank_of(names[place], text)):
                original = _name(parts, starts, int(originals[starts[index] + place]))
                count.add_sample(Sample.of(names[place], text, text, instead=original))
    return count


def _name(parts: Sequence[Part], starts: Ints, place: int) -> str:
    index = int(np.searchsorted(starts, place, "right")) - 1
    return parts[index].names()[place - int(starts[index])]
