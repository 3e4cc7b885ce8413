"""The byte-level alphabet of GPT-2: a printable character for each of the 256 bytes.

tokenizer.json spells tokens in these characters. Bytes that are printable in Latin-1 stand for
themselves, the others are U+0100 and up in their order.
"""

from weldlm import _tokenizer

__all__ = ["bytes_from_characters", "characters_from_bytes"]

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
    try:
        return characters.translate(_LATIN_OF).encode("latin-1")
    except UnicodeEncodeError:
        return None
