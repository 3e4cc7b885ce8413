"""What tokenizer.json files do to text around SentencePiece vocabularies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from weldlm import _tokenizer
from weldlm.tokenizer.parts import DecoderTables
from weldlm.tokenizer.sentencepiece import byte_of_piece

__all__ = [
    "DelimiterCutter",
    "Metaspace",
    "MetaspaceDecoder",
    "MetaspaceWords",
    "Nmt",
    "Precompiled",
    "Prepend",
    "PrependScheme",
    "Replace",
    "ReplaceDecoder",
    "Strip",
    "StripRuns",
    "WhitespaceSplit",
]

PrependScheme: TypeAlias = Literal["always", "first", "never"]


@dataclass(frozen=True, slots=True)
class Precompiled:
    """The rules of a precompiled charsmap, cluster by cluster as the tokenizers library has it."""

    charsmap: bytes

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.Precompiled(self.charsmap)


@dataclass(frozen=True, slots=True)
class Prepend:
    """Puts a string in front of a text that is not empty."""

    content: str

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.Prepend(self.content)


@dataclass(frozen=True, slots=True)
class Replace:
    """Replaces each occurrence of a string, or each run of at least `least` of it as a whole."""

    pattern: str
    content: str
    least: int = 0  # 0: no runs

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.Replace(self.pattern, self.least, self.content)


@dataclass(frozen=True, slots=True)
class Strip:
    """Removes white space at the ends of a text."""

    left: bool
    right: bool

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.Strip(self.left, self.right)


@dataclass(frozen=True, slots=True)
class StripRuns:
    """Removes all occurrences of a string at one end of a text or both."""

    pattern: str
    left: bool
    right: bool

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.StripRuns(self.pattern, self.left, self.right)


@dataclass(frozen=True, slots=True)
class Nmt:
    """Drops control characters and makes a space of what counts as one."""

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.Nmt()


@dataclass(frozen=True, slots=True)
class Metaspace:
    """Makes `replacement` of spaces and puts one in front."""

    replacement: str = "\u2581"
    scheme: PrependScheme = "always"

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.Metaspace(
            self.replacement, getattr(_tokenizer.PrependScheme, self.scheme)
        )


@dataclass(frozen=True, slots=True)
class MetaspaceWords:
    """Puts `replacement` in front of every word and removes the white space."""

    replacement: str = "\u2581"

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.MetaspaceWords(self.replacement)


@dataclass(frozen=True, slots=True)
class DelimiterCutter:
    """Cuts before each delimiter."""

    delimiter: str = "\u2581"

    def build(self) -> _tokenizer.Pretokenizer:
        return _tokenizer.DelimiterCutter(self.delimiter)


@dataclass(frozen=True, slots=True)
class WhitespaceSplit:
    """Splits at white space, which is removed."""

    def build(self) -> _tokenizer.Pretokenizer:
        return _tokenizer.WhitespaceSplit()


@dataclass(frozen=True, slots=True)
class MetaspaceDecoder:
    """`replacement` is a space, and nothing in the first token."""

    replacement: str = "\u2581"
    scheme: PrependScheme = "always"

    def tables(self, tokens: Sequence[bytes]) -> DecoderTables:
        replacement = self.replacement.encode()
        texts = [token.replace(replacement, b" ") for token in tokens]
        if self.scheme == "never":
            return DecoderTables(texts)
        return DecoderTables(texts, [token.replace(replacement, b"") for token in tokens])


@dataclass(frozen=True, slots=True)
class ReplaceDecoder:
    """Replaces a string in the tokens, makes bytes of <0x00> to <0xFF>, strips the beginning."""

    pattern: str = "\u2581"
    content: str = " "
    stripped: str = " "  # at the beginning of the text, once; empty: nothing

    def tables(self, tokens: Sequence[bytes]) -> DecoderTables:
        texts = [self._text(token) for token in tokens]
        if not self.stripped:
            return DecoderTables(texts)
        stripped = self.stripped.encode()
        return DecoderTables(texts, [text.removeprefix(stripped) for text in texts])

    def _text(self, token: bytes) -> bytes:
        byte = byte_of_piece(token.decode("utf-8", "replace"))
        if byte is not None:
            return bytes([byte])
        return token.replace(self.pattern.encode(), self.content.encode())
