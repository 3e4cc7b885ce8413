"""Ids with their places in the text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LocatedIds", "character_numbers", "spaces_around", "trimmed"]


@dataclass(frozen=True, slots=True, eq=False)
class LocatedIds:
    """Ids with the place of each in the text; special tokens of the template have none: (0, 0)."""

    ids: list[int]
    offsets: NDArray[np.int64]  # [ids, 2], begin and end


def spaces_around(tokens: Sequence[bytes], added: Mapping[int, str]) -> NDArray[np.int64]:
    """How many spaces each token begins and ends with; of added tokens, characters of white space.

    [tokens, 2]
    """
    texts: list[str | bytes] = list(tokens)
    for token_id, content in added.items():
        texts[token_id] = content
    rows = [_spaces(text) for text in texts]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def trimmed(
    offsets: NDArray[np.int64], spaces: NDArray[np.int64], *, has_prefix_space: bool
) -> NDArray[np.int64]:
    """The offsets without the spaces of their tokens, as the tokenizers library trims them.

    Args:
        offsets: [ids, 2]
        spaces: [ids, 2], at the beginning and at the end of each token.
        has_prefix_space: one space of a token at the beginning is not in the text.
    """
    if not len(offsets):
        return offsets
    begin, end = offsets.T
    leading, trailing = spaces.T
    if has_prefix_space:
        is_first = begin == 0
        is_first[0] = True
        leading = leading - (is_first & (leading > 0))
    begin = np.minimum(begin + leading, end)
    end = np.where(end >= trailing, np.maximum(end - trailing, begin), end)
    return np.stack((begin, end), axis=1)


def _spaces(text: str | bytes) -> tuple[int, int]:
    if isinstance(text, bytes):
        return len(text) - len(text.lstrip(b" ")), len(text) - len(text.rstrip(b" "))
    return len(text) - len(text.lstrip()), len(text) - len(text.rstrip())


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
