"""The byte-level alphabet of GPT-2: a printable character for each of the 256 bytes.

tokenizer.json spells tokens in these characters. Bytes that are printable in Latin-1 stand for
themselves, the others are U+0100 and up in their order.
"""

from collections.abc import Sequence

from weldlm import _tokenizer

__all__ = ["bytes_from_characters", "bytes_of_names", "characters_from_bytes"]

_BORDER = "\uffff"  # between names; no character

_NUM_PRINTABLE = 188
_ALPHABET = _tokenizer.byte_alphabet()
_CHARACTERS = [chr(byte) for byte in _ALPHABET[:_NUM_PRINTABLE]]
_CHARACTERS += [chr(0x100 + i) for i in range(len(_ALPHABET) - _NUM_PRINTABLE)]

_CHARACTER_OF = dict(zip(_ALPHABET, _CHARACTERS, strict=True))
# the Latin-1 character whose code is the byte; what is not in the alphabet leaves Latin-1
_LATIN_OF = dict.fromkeys(range(0x100), 0xFFFD) | {
    ord(character): byte for byte, character in _CHARACTER_OF.items()
}


def characters_from_bytes(token: bytes) -> str:
    return token.decode("latin-1").translate(_CHARACTER_OF)


def bytes_from_characters(characters: str) -> bytes | None:
    """The bytes that `characters` stand for, None if one of them is not in the alphabet."""
    return _latin(characters.translate(_LATIN_OF))


def bytes_of_names(names: Sequence[str]) -> list[bytes | None]:
    """`bytes_from_characters` of each name, several times as fast."""
    parts = _BORDER.join(names).translate(_LATIN_OF).split(_BORDER)
    if len(parts) != len(names):  # a name holds the border
        return [bytes_from_characters(name) for name in names]
    return [_latin(part) for part in parts]


def _latin(text: str) -> bytes | None:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return None
