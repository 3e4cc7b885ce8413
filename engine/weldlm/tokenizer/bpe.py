"""Byte-level BPE: merges of bytes within the pieces of a regular expression."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from weldlm import _tokenizer

__all__ = ["BpeModel", "Pattern"]

Merges: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class BpeModel:
    """Merges in the order of their ranks."""

    merges: Merges  # [merges, 3]: ids of left, right and merged token

    def build(self, vocabulary: _tokenizer.Vocabulary) -> _tokenizer.ByteBpe:
        return _tokenizer.ByteBpe(vocabulary, self.merges)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Splits text as the regular expression of a family of tokenizers does."""

    family: str

    def build(self) -> _tokenizer.Pretokenizer:
        return _tokenizer.PatternPretokenizer(self.family)
