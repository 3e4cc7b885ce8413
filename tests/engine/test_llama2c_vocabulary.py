"""Vocabularies of llama2.c: that of stories260K against sentencepiece, and small ones made here."""

import functools
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.engine.real_data import data_path
from tests.engine.tokenizer_files import field, llama2c, llama2c_records
from tests.engine.tokenizer_oracles import standard_library_texts
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.llama2c_vocabulary import is_llama2c_vocabulary

TEXTS = [
    "Once upon a time, there was a little girl named Lily.",
    "  two  spaces and\n\nlines\t\u4e2d\u6587 \U0001f600 caf\xe9 ",
    "",
    " ",
    "\u2581a \u2581",
    *standard_library_texts(2),
]


def stories() -> Path:
    return data_path("models/stories260K/tok512.bin")


@functools.cache
def stories_of_sentencepiece() -> Any:
    """The model that the file was made from, built from its records."""
    package = pytest.importorskip("sentencepiece")
    data, position = stories().read_bytes(), 4
    pieces: list[bytes] = []
    kinds = {0: 2, 1: 3, 2: 3} | dict.fromkeys(range(3, 259), 6)
    while position < len(data):
        score, size = struct.unpack_from("<fi", data, position)
        name = data[position + 8 : position + 8 + size].strip(b"\n").replace(b" ", b"\xe2\x96\x81")
        kind = kinds.get(len(pieces), 1)
        pieces.append(field(1, field(1, name) + field(2, score) + field(3, kind)))
        position += 8 + size
    trainer = field(2, field(3, 2) + field(35, 1))
    normalizer = field(3, field(3, 1) + field(4, 0) + field(5, 1))
    return package.SentencePieceProcessor(model_proto=b"".join(pieces) + trainer + normalizer)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
def test_ids_are_those_of_sentencepiece(text: str) -> None:
    ids = Tokenizer.from_file(stories()).encode(text)

    assert ids == [1, *stories_of_sentencepiece().encode(text)]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
def test_text_is_that_of_sentencepiece(text: str) -> None:
    read = Tokenizer.from_file(stories())
    ids = read.encode(text)

    assert read.decode(ids) == stories_of_sentencepiece().decode(ids)


def test_first_words_have_their_known_ids() -> None:
    assert Tokenizer.from_file(stories()).encode("Once upon a time") == [1, 403, 407, 261, 378]


def test_other_files_are_no_vocabularies(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(struct.pack("<7i", 64, 172, 5, 8, 4, 512, 512))

    assert not is_llama2c_vocabulary(path)


RECORDS = llama2c_records()


def changed(index: int, name: bytes, score: float = 0.0) -> bytes:
    return llama2c([*RECORDS[:index], (name, score), *RECORDS[index + 1 :]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(llama2c(RECORDS)[:-1], "record 272 .* has score .* and 1 bytes", id="cut"),
        pytest.param(llama2c(RECORDS)[:-5], "record 272 at byte .* is cut off", id="cut-head"),
        pytest.param(llama2c(RECORDS[:1]), "the file ends after record 0; expected <s>", id="one"),
        pytest.param(llama2c(RECORDS[:100]), "97 pieces of bytes; expected <0x00>", id="bytes"),
        pytest.param(
            struct.pack("<I", 99) + llama2c(RECORDS)[4:],
            "the longest token has 6 bytes, but byte 0 says 99",
            id="longest",
        ),
        pytest.param(changed(270, b"the"), "record 270 is 'the', which record 259", id="twice"),
        pytest.param(changed(270, b"\xff"), "record 270 has invalid UTF-8 at byte", id="utf-8"),
        pytest.param(changed(270, b""), "record 270 at byte .* and 0 bytes", id="empty"),
        pytest.param(changed(270, b"q", float("nan")), "record 270 at byte .* score nan", id="nan"),
        pytest.param(
            llama2c(RECORDS) + struct.pack("<fi", 0.0, 1 << 30), "and 1073741824 bytes", id="huge"
        ),
        pytest.param(llama2c(RECORDS) + struct.pack("<fi", 0.0, -1), "and -1 bytes", id="negative"),
    ],
)
def test_damage_is_refused_by_its_place(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tok.bin"
    path.write_bytes(data)

    with pytest.raises(ValueError, match=f"{path}: .*{message}"):
        Tokenizer.from_file(path)
