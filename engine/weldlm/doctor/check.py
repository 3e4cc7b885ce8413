"""A claim that was measured, and the sequences it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Check", "cut_texts", "padding_share"]

NUM_SEQUENCES = 8
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Check:
    """A claim, whether it holds here, and by what figure."""

    name: str
    passed: bool
    figure: str
    advice: str  # what to do where it does not hold


def cut_texts(encoded: Sequence[Sequence[int]], most_tokens: int) -> list[list[int]]:
    """Returns eight sequences of the user's tokens of different lengths, each of four at least.

    The beginnings of the texts, as long as they are up to `most_tokens`; where there are fewer
    texts, more pieces of the longest.

    Raises:
        ValueError: there are too few tokens.
    """
    pieces = [list(ids[:most_tokens]) for ids in encoded if len(ids) >= _FEWEST][:NUM_SEQUENCES]
    longest = max(encoded, key=len, default=[])
    place = most_tokens
    while len(pieces) < NUM_SEQUENCES and place + _FEWEST <= len(longest):
        # lengths that differ, as those of documents do
        length = max(_FEWEST, most_tokens * (1 + len(pieces) * 3 % NUM_SEQUENCES) // NUM_SEQUENCES)
        pieces.append(list(longest[place : place + length]))
        place += length
    pieces = [piece for piece in pieces if len(piece) >= _FEWEST]
    if len(pieces) < 2:
        raise ValueError(
            f"the data gives {len(pieces)} sequences of {_FEWEST} tokens or more; expected two: "
            "give more text"
        )
    return pieces


def padding_share(lengths: Sequence[int]) -> float:
    """The share of a padded batch of these lengths that is padding."""
    return 1.0 - sum(lengths) / (len(lengths) * max(lengths))
