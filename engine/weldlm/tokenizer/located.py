"""Ids with their places in the text."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LocatedIds", "character_numbers"]


@dataclass(frozen=True, slots=True, eq=False)
class LocatedIds:
    """Ids with the place of each in the text; special tokens of the template have none: (0, 0)."""

    ids: list[int]
    offsets: NDArray[np.int64]  # [ids, 2], begin and end


def character_numbers(text: str) -> NDArray[np.int64]:
    """For each byte of the UTF-8 of a text, and its end, the number of the character."""
    if text.isascii():
        return np.arange(len(text) + 1)
    units = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    sizes = 1 + (units >= 0x80) + (units >= 0x800) + (units >= 0x10000).astype(np.int64)
    # a pair of surrogates is encoded as the character it stands for, a lone one as U+FFFD
    is_pair = (units[:-1] >> 10 == 0xD800 >> 10) & (units[1:] >> 10 == 0xDC00 >> 10)
    sizes[:-1][is_pair], sizes[1:][is_pair] = 4, 0
    return np.append(np.repeat(np.arange(len(text)), sizes), len(text))
