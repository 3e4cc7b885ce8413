"""The vocabulary file of llama2.c: the size of the longest token, then a record for each id.

A record is an fp32 score, the number of bytes and the bytes. The algorithm is SentencePiece's BPE
with byte fallback and a dummy prefix; llama2.c puts <s> before a text.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from weldlm.tokenizer.parts import Template, TemplatePiece, TokenizerParts
from weldlm.tokenizer.sentencepiece import byte_of_piece
from weldlm.tokenizer.spiece_model import PieceKind, SpieceModel, check_kinds, spiece_parts

__all__ = ["is_llama2c_vocabulary", "read_llama2c_vocabulary"]

_RECORD = struct.Struct("<fi")
_FIRST = b"<unk>"
_MOST_BYTES = 1 << 16  # of a token
_BPE = 2
# ids 0 to 2; llama2.c writes white space around the names of the second and third
_CONTROL = ("<unk>", "<s>", "</s>")


def is_llama2c_vocabulary(path: Path) -> bool:
    """Whether a file begins as such a vocabulary does."""
    with path.open("rb") as file:
        head = file.read(4 + _RECORD.size + len(_FIRST))
    return head[4 + _RECORD.size :] == _FIRST and head[8:12] == struct.pack("<i", len(_FIRST))


def read_llama2c_vocabulary(path: Path) -> TokenizerParts:
    """Reads the file.

    Raises:
        ValueError: it is cut off or damaged; names the byte.
    """
    data = path.read_bytes()
    names: list[str] = []
    scores: list[float] = []
    longest = int.from_bytes(data[:4], "little")
    position = 4
    while position < len(data):
        name, score, position = _record(data, position, len(names))
        names.append(name)
        scores.append(score)
    if len(names) < len(_CONTROL):
        raise ValueError(f"the file ends after record {len(names) - 1}; expected <s> and </s> too")
    found = max(len(name.encode()) for name in names)
    if found != longest:
        raise ValueError(
            f"the longest token has {found} bytes, but byte 0 says {longest}: the file is cut off "
            "or damaged"
        )
    names[:3] = _CONTROL
    _require_each_once(names)
    kinds = np.full(len(names), PieceKind.NORMAL, dtype=np.uint8)
    kinds[:3] = PieceKind.UNKNOWN, PieceKind.CONTROL, PieceKind.CONTROL
    is_byte = [byte_of_piece(name) is not None for name in names]
    kinds[is_byte] = PieceKind.BYTE
    model = SpieceModel(
        pieces=[name.replace(" ", "\u2581") for name in names],
        scores=np.array(scores, dtype=np.float32),
        kinds=kinds,
        model_type=_BPE,
        byte_fallback=any(is_byte),
        remove_extra_whitespaces=False,
    )
    first = (TemplatePiece((1,)), TemplatePiece("A"))
    template = Template(single=first, pair=(*first, TemplatePiece("B", 1)))
    check_kinds(model)
    return spiece_parts(model, template=template)


def _require_each_once(names: Sequence[str]) -> None:
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        if name in numbers:
            raise ValueError(f"record {number} is {name!r}, which record {numbers[name]} is too")
        numbers[name] = number


def _record(data: bytes, position: int, number: int) -> tuple[str, float, int]:
    begin = position + _RECORD.size
    if begin > len(data):
        raise ValueError(f"record {number} at byte {position} is cut off")
    score, size = _RECORD.unpack_from(data, position)
    if not 0 < size <= min(_MOST_BYTES, len(data) - begin) or not np.isfinite(score):
        raise ValueError(
            f"record {number} at byte {position} has score {score} and {size} bytes; expected a "
            f"finite score and 1 to {min(_MOST_BYTES, len(data) - begin)} bytes"
        )
    try:
        return data[begin : begin + size].decode("utf-8"), score, begin + size
    except UnicodeDecodeError as error:
        raise ValueError(
            f"record {number} has invalid UTF-8 at byte {begin + error.start}"
        ) from error
