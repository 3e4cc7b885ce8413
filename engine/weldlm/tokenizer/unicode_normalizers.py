"""Normalizers for any family: the forms of Unicode, lower case, the removal of accents."""

from dataclasses import dataclass
from typing import Literal

from weldlm import _tokenizer

__all__ = ["Lowercase", "StripAccents", "UnicodeNormalizer"]


@dataclass(frozen=True, slots=True)
class UnicodeNormalizer:
    """One of the four normalization forms."""

    form: Literal["NFC", "NFD", "NFKC", "NFKD"]

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.UnicodeNormalizer(self.form)


@dataclass(frozen=True, slots=True)
class Lowercase:
    """Each character in lower case, whatever stands around it."""

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.Lowercase()


@dataclass(frozen=True, slots=True)
class StripAccents:
    """Drops combining marks; letters that are not decomposed keep theirs."""

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.StripAccents()
