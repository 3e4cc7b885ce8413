"""What a byte-level BPE tokenizer consists of, whatever file or training it comes from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AddedToken", "BpeParts"]


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that stands for itself in text and is never split."""

    content: str
    id: int
    is_special: bool = True  # only matched where the caller allows it
    is_normalized: bool = False  # matched in a second pass, after all tokens that are not


@dataclass(frozen=True, slots=True, eq=False)
class BpeParts:
    """The vocabulary, the merges in the order of their ranks, and the added tokens."""

    tokens: list[bytes]  # token of each id
    merges: NDArray[np.uint32]  # [merges, 3]: ids of left, right and merged token
    added_tokens: tuple[AddedToken, ...] = ()
