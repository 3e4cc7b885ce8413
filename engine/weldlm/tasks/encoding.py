"""Rows of a task as sequences of ids: special tokens around them, and what is done if too long."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from weldlm.config import ModelConfig
from weldlm.objectives import EncodedTexts
from weldlm.tokenizer import BatchEncoding, Tokenizer

__all__ = ["EncodedRow", "Encoding", "Ints", "Piece", "TooLong", "batches_of", "joined"]

TooLong = Literal["error", "truncate", "split"]
Ints: TypeAlias = npt.NDArray[np.int64]

_TOKENS_PER_FORWARD = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """What all rows are encoded with."""

    tokenizer: Tokenizer
    config: ModelConfig  # of the model that reads them
    too_long: TooLong = "error"  # what becomes of a row that the model cannot take whole
    max_length: int | None = None  # most tokens of a sequence; as many as the model takes if None

    def __post_init__(self) -> None:
        if self.too_long not in get_args(TooLong):
            raise ValueError(f"too_long is {self.too_long!r}; expected error, truncate or split")
        most, given = self._context_length, self.max_length
        if given is not None and (given < 1 or (most is not None and given > most)):
            limit = "" if most is None else f" and at most the model's context_length, {most}"
            raise ValueError(f"max_length is {given}; expected at least 1{limit}")

    @property
    def most_tokens(self) -> int | None:
        """Of a sequence; None where the model sets no limit."""
        return self._context_length if self.max_length is None else self.max_length

    @property
    def _context_length(self) -> int | None:
        return None if self.config.positions == "relative" else self.config.context_length

    def texts(self, text: str, pair: str | None, **options: Any) -> BatchEncoding:
        """Encodes a text or a pair whole, or as `options` say; special tokens in it are text."""
        return self.tokenizer(
            text,
            pair,
            split_special_tokens=True,
            return_token_type_ids=True,
            return_attention_mask=False,
            **options,
        )

    def is_too_long(self, num_tokens: int) -> bool:
        """Whether a sequence must be cut.

        Raises:
            ValueError: it must, and that is not asked for.
        """
        most = self.most_tokens
        if most is None or num_tokens <= most:
            return False
        if self.too_long == "error":
            raise ValueError(
                f"the row has {num_tokens} tokens; expected at most {most}; shorten it, or give "
                "too_long truncate or split"
            )
        return True

    def pieces(self, encoded: BatchEncoding) -> list["Piece"]:
        """The rows of an encoding that may have several."""
        ids, types = encoded.input_ids, encoded.token_type_ids
        if not ids or isinstance(ids[0], int):
            ids, types = [ids], [types]
        return [self.piece(*pair) for pair in zip(ids, types, strict=True)]

    def piece(self, ids: Sequence[int], types: Sequence[int] | None = None) -> "Piece":
        """A sequence, with segments where the model knows some."""
        has_types = types is not None and self.config.num_token_types > 1 and any(types)
        return Piece(list(ids), list(types or ()) if has_types else None)


@dataclass(slots=True)
class Piece:
    """A sequence made of a row, or of a part of it."""

    ids: list[int]
    token_types: list[int] | None = None  # all the first where None


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A row of labelled data as sequences."""

    row: Any  # of the task's kind
    pieces: tuple[Any, ...]  # of the task's kind; at least one


def joined(rows: Iterable[EncodedRow]) -> EncodedTexts:
    """The pieces of all rows end to end."""
    pieces = [piece for row in rows for piece in row.pieces]
    types = None
    if any(piece.token_types is not None for piece in pieces):
        types = [piece.token_types or [0] * len(piece.ids) for piece in pieces]
    return EncodedTexts.of((piece.ids for piece in pieces), types)


def batches_of(texts: EncodedTexts) -> Iterator[Ints]:
    """Yields the indices of all texts in order, as many at a time as one forward shall take."""
    lengths = texts.lengths.tolist()
    first, num_tokens = 0, 0
    for index, length in enumerate(lengths):
        if index > first and num_tokens + length > _TOKENS_PER_FORWARD:
            yield np.arange(first, index)
            first, num_tokens = index, 0
        num_tokens += length
    if lengths:
        yield np.arange(first, len(lengths))
