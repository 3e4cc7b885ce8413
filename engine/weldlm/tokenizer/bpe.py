"""Byte-level BPE: merges of bytes within the pieces of a regular expression."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from weldlm import _tokenizer
from weldlm.tokenizer.parts import Pretokenizer

__all__ = ["BpeModel", "Merges", "Pattern", "PatternSequence", "RankedBpeModel"]

Merges: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class BpeModel:
    """Merges in the order of their ranks."""

    merges: Merges  # [merges, 3]: ids of left, right and merged token
    ignore_merges: bool = False  # a piece that is a token is that token
    drops_bytes: bool = (
        False  # bytes without a token are left out, as tokenizers does; else refused
    )
    hidden_ids: tuple[int, ...] = ()  # tokens that no piece is, whatever their bytes
    num_tokens: int | None = None  # the ids from here on are hidden too; None: there are none

    @property
    def algorithm(self) -> str:
        return "byte-level BPE"

    def build(self, vocabulary: _tokenizer.Vocabulary) -> _tokenizer.ByteBpe:
        if self.ignore_merges:
            vocabulary = _without(vocabulary, self.hidden_ids, self.num_tokens)
        return _tokenizer.ByteBpe(vocabulary, self.merges, self.ignore_merges, self.drops_bytes)


@dataclass(frozen=True, slots=True)
class RankedBpeModel:
    """The BPE of tiktoken: two tokens merge where their bytes together are a token, the one of
    the lowest id first, and a piece that is a token is that token."""

    hidden_ids: tuple[int, ...] = ()  # tokens that are never made of bytes: the special ones

    @property
    def algorithm(self) -> str:
        return "byte-level BPE by ranks"

    def build(self, vocabulary: _tokenizer.Vocabulary) -> _tokenizer.ByteBpe:
        return _tokenizer.ByteBpe.of_ranks(_without(vocabulary, self.hidden_ids, None))


@dataclass(frozen=True, slots=True)
class Pattern:
    """Splits text as the regular expression of a family of tokenizers does."""

    family: str

    def build(self) -> _tokenizer.Pretokenizer:
        return _tokenizer.PatternPretokenizer(self.family)


@dataclass(frozen=True, slots=True)
class PatternSequence:
    """Splits text, then each piece as a text of its own, and so on."""

    steps: tuple[Pretokenizer, ...]

    def build(self) -> _tokenizer.Pretokenizer:
        return _tokenizer.PretokenizerSequence([step.build() for step in self.steps])


def _without(
    vocabulary: _tokenizer.Vocabulary, hidden_ids: tuple[int, ...], num_tokens: int | None
) -> _tokenizer.Vocabulary:
    end = len(vocabulary) if num_tokens is None else num_tokens
    hidden = {*hidden_ids, *range(end, len(vocabulary))}
    if not hidden:
        return vocabulary
    tokens = vocabulary.tokens()
    for token_id in hidden:
        tokens[token_id] = b""
    return _tokenizer.Vocabulary(tokens)
