"""What a tokenizer consists of, whatever file or training it comes from.

Text goes through added tokens, normalizers, rewriters, a pretokenizer and a model to ids; a
template puts special tokens around them; a decoder gives the bytes of ids. Each part is data, and
`build` makes the C++ object that does its work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from weldlm import _tokenizer

__all__ = [
    "AddedToken",
    "Decoder",
    "DecoderTables",
    "Model",
    "Normalizer",
    "OffsetTrimming",
    "Padding",
    "PlainDecoder",
    "Pretokenizer",
    "Template",
    "TemplatePiece",
    "TokenizerParts",
    "Truncation",
]


class Normalizer(Protocol):
    """Rewrites text before it is split."""

    def build(self) -> _tokenizer.Normalizer: ...


class Pretokenizer(Protocol):
    """Splits text into pieces that no token crosses."""

    def build(self) -> _tokenizer.Pretokenizer: ...


class Model(Protocol):
    """Turns a piece into ids."""

    @property
    def algorithm(self) -> str: ...

    def build(self, vocabulary: _tokenizer.Vocabulary) -> _tokenizer.Model: ...


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that stands for itself in text and is never split."""

    content: str
    id: int
    is_special: bool = True  # only matched where the caller allows it
    is_normalized: bool = False  # matched in a second pass, after all tokens that are not
    is_single_word: bool = False  # not matched beside a letter, digit or the like
    strips_left: bool = False  # takes the white space before it
    strips_right: bool = False  # takes the white space behind it

    @property
    def flags(self) -> tuple[bool, bool, bool, bool, bool]:
        return (
            self.is_special,
            self.is_normalized,
            self.is_single_word,
            self.strips_left,
            self.strips_right,
        )


@dataclass(frozen=True, slots=True)
class DecoderTables:
    """What each id adds to a text."""

    texts: list[bytes]
    first_texts: list[bytes] = field(default_factory=list)  # at the beginning; empty: no other
    silent_ids: tuple[int, ...] = ()  # add nothing, and what follows them is still the first
    first_until_text: bool = False  # so it is behind any token that added nothing


class Decoder(Protocol):
    """Says what the tokens of a vocabulary add to a text."""

    def tables(self, tokens: Sequence[bytes]) -> DecoderTables: ...


@dataclass(frozen=True, slots=True)
class PlainDecoder:
    """Tokens are the bytes of the text, as in byte-level BPE."""

    def tables(self, tokens: Sequence[bytes]) -> DecoderTables:
        return DecoderTables(list(tokens))


@dataclass(frozen=True, slots=True)
class TemplatePiece:
    """One of the two texts, or special tokens."""

    source: Literal["A", "B"] | tuple[int, ...]
    type_id: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """What stands around one text, and around a pair."""

    single: tuple[TemplatePiece, ...] = (TemplatePiece("A"),)
    pair: tuple[TemplatePiece, ...] = (TemplatePiece("A"), TemplatePiece("B", 1))


@dataclass(frozen=True, slots=True)
class OffsetTrimming:
    """The places of byte-level tokens are without the spaces at their ends."""

    has_prefix_space: bool = True  # one space of the first token is not in the text


@dataclass(frozen=True, slots=True)
class Truncation:
    """How a file says that long texts are cut."""

    max_length: int
    stride: int = 0  # tokens that consecutive windows share
    strategy: Literal["longest_first", "only_first", "only_second"] = "longest_first"
    side: Literal["left", "right"] = "right"


@dataclass(frozen=True, slots=True)
class Padding:
    """How a file says that short texts are filled up."""

    pad_id: int
    pad_type_id: int = 0
    pad_token: str = "[PAD]"
    side: Literal["left", "right"] = "right"
    length: int | None = None  # of every row; the longest of the batch where None
    multiple_of: int | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TokenizerParts:
    """All that a tokenizer is made of."""

    tokens: list[bytes]  # of each id; empty: the id stands for nothing
    model: Model
    added_tokens: tuple[AddedToken, ...] = ()
    normalizers: tuple[Normalizer, ...] = ()
    rewriters: tuple[Normalizer, ...] = ()  # work on the text between added tokens
    pretokenizer: Pretokenizer | None = None  # None: a text is one piece
    decoder: Decoder = PlainDecoder()
    template: Template = Template()
    offset_trimming: OffsetTrimming | None = None
    truncation: Truncation | None = None
    padding: Padding | None = None
