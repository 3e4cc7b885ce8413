"""The parts of SentencePiece tokenizers: models over characters, normalizer, decoder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from weldlm import _tokenizer
from weldlm.tokenizer.parts import DecoderTables

__all__ = [
    "MetaspaceCutter",
    "RankedBpeModel",
    "ScoredBpeModel",
    "SpieceDecoder",
    "SpieceNormalizer",
    "UnigramModel",
    "byte_of_piece",
]

_METASPACE = "\u2581".encode()


def byte_of_piece(piece: str) -> int | None:
    """The byte that a piece such as <0x0A> stands for."""
    digits = piece[3:5]
    if len(piece) != 6 or piece != f"<0x{digits}>" or not set(digits) <= set("0123456789ABCDEF"):
        return None
    return int(digits, 16)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UnigramModel:
    """The pieces whose scores have the largest sum."""

    scores: NDArray[np.float64]  # of each id
    matched_ids: NDArray[np.uint32]  # tokens that text is searched for
    unknown_id: int
    unknown_score: float  # of each character that is no token
    byte_ids: tuple[int, ...] = ()  # the token of each byte of unknown characters
    rules: Literal["sentencepiece", "tokenizers"]  # of rounding and of unknown characters

    @property
    def algorithm(self) -> str:
        return "Unigram"

    def build(self, vocabulary: _tokenizer.Vocabulary) -> _tokenizer.Model:
        return _tokenizer.Unigram(
            vocabulary,
            self.scores,
            self.matched_ids,
            self.unknown_id,
            self.unknown_score,
            self.byte_ids,
            getattr(_tokenizer.UnigramRules, self.rules),
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScoredBpeModel:
    """BPE over characters that merges to the token of the highest score first."""

    scores: NDArray[np.float32]  # of each id
    merged_ids: NDArray[np.uint32]  # tokens that characters and merges can become
    unsplit_ids: NDArray[np.uint32]  # tokens taken from the text before any merge
    unknown_id: int
    byte_ids: tuple[int, ...] = ()

    @property
    def algorithm(self) -> str:
        return "SentencePiece BPE"

    def build(self, vocabulary: _tokenizer.Vocabulary) -> _tokenizer.Model:
        return _tokenizer.SentencePieceBpe.from_scores(
            vocabulary,
            self.scores,
            self.merged_ids,
            self.unsplit_ids,
            self.unknown_id,
            True,
            self.byte_ids,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RankedBpeModel:
    """BPE over characters with merges in the order of their ranks."""

    merges: NDArray[np.uint32]  # [merges, 3]: ids of left, right and merged token
    merged_ids: NDArray[np.uint32]  # tokens that characters can become
    unknown_id: int
    fuse_unknown: bool
    byte_ids: tuple[int, ...] = ()

    @property
    def algorithm(self) -> str:
        return "SentencePiece BPE by ranks"

    def build(self, vocabulary: _tokenizer.Vocabulary) -> _tokenizer.Model:
        return _tokenizer.SentencePieceBpe.from_merges(
            vocabulary,
            self.merges,
            self.merged_ids,
            self.unknown_id,
            self.fuse_unknown,
            self.byte_ids,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpieceNormalizer:
    """The normalizer of a .model file."""

    charsmap: bytes = b""  # empty: no rules
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    treat_whitespace_as_suffix: bool = False
    kept: tuple[str, ...] = ()  # strings that the rules leave as they are

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.SpieceNormalizer(
            self.charsmap or None,
            self.add_dummy_prefix,
            self.remove_extra_whitespaces,
            self.escape_whitespaces,
            self.treat_whitespace_as_suffix,
            [string.encode() for string in self.kept],
        )


@dataclass(frozen=True, slots=True)
class MetaspaceCutter:
    """Cuts before U+2581: at the beginning of each run of it, or before each."""

    before: Literal["runs", "each"]

    @classmethod
    def of(cls, tokens: Iterable[str]) -> Self | None:
        """The most cuts that none of the tokens crosses, None for none."""
        cuts = _tokenizer.metaspace_cuts([token.encode() for token in tokens])
        if cuts == _tokenizer.MetaspaceCuts.nowhere:
            return None
        return cls("each" if cuts == _tokenizer.MetaspaceCuts.before_each else "runs")

    def build(self) -> _tokenizer.Pretokenizer:
        cuts = _tokenizer.MetaspaceCuts
        return _tokenizer.MetaspaceCutter(
            cuts.before_runs if self.before == "runs" else cuts.before_each
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpieceDecoder:
    """Decodes as sentencepiece does: U+2581 is a space, none at the beginning."""

    unknown_id: int
    unknown_text: str
    control_ids: tuple[int, ...]
    byte_ids: tuple[int, ...]
    strips_first_space: bool
    strips_every_space: bool = False  # in front of the text, not just one

    def tables(self, tokens: Sequence[bytes]) -> DecoderTables:
        texts = [token.replace(_METASPACE, b" ") for token in tokens]
        first_texts = list(texts)
        if self.strips_first_space:
            first_texts = [
                token.removeprefix(_METASPACE).replace(_METASPACE, b" ") for token in tokens
            ]
        for table in (texts, first_texts):
            table[self.unknown_id] = self.unknown_text.encode()
            for byte, token_id in enumerate(self.byte_ids):
                table[token_id] = bytes([byte])
        return DecoderTables(texts, first_texts, self.control_ids, self.strips_every_space)
