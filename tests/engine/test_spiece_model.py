"""Damaged .model files: every one is refused with the byte, and none does harm."""

import struct

import numpy as np
import pytest

from tests.engine.sentencepiece_oracles import needs_data, pair
from weldlm.tokenizer.spiece_model import parse_spiece_model, parts_of_spiece_model


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def block(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def piece(text: bytes, score: float = -1.0, kind: int = 1) -> bytes:
    score_field = varint(2 << 3 | 5) + struct.pack("<f", score)
    return block(1, block(1, text) + score_field + integer(3, kind))


UNKNOWN = piece(b"<unk>", 0, 2)
SMALL = UNKNOWN + piece(b"a") + piece(b"b", -2)
BYTES = b"".join(piece(b"<0x%02X>" % byte, 0, 6) for byte in range(256))


def test_small_model_is_read() -> None:
    model = parse_spiece_model(SMALL + block(2, integer(3, 2)) + block(3, integer(3, 0)))

    assert (model.pieces, model.scores.tolist(), model.model_type, model.add_dummy_prefix) == (
        ["<unk>", "a", "b"],
        [0.0, -1.0, -2.0],
        2,
        False,
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(SMALL[:-3], "beyond byte|data end at byte", id="truncated"),
        pytest.param(SMALL + b"\x0a\xff\xff\x03", "pieces at byte 40 goes beyond", id="size"),
        pytest.param(SMALL + b"\xff" * 11, "byte 40 has more than 64 bits", id="number"),
        pytest.param(SMALL + b"\x09" + b"\0" * 8, "wire type 1, expected 2", id="wire-type"),
        pytest.param(SMALL + integer(2, 5), "trainer_spec at byte 40 has wire type 0", id="spec"),
        pytest.param(SMALL + block(9, b""), "unknown field 9 at byte 40", id="unknown-field"),
        pytest.param(SMALL + block(2, integer(60, 1)), "TrainerSpec has the unknown", id="trainer"),
        pytest.param(SMALL + piece(b"a"), "at byte 40 is 'a', which piece 1", id="twice"),
        pytest.param(SMALL + piece(b"\xff"), "invalid UTF-8 at byte 44", id="utf-8"),
        pytest.param(SMALL + piece(b""), "piece 3 at byte 40 is ''", id="empty"),
        pytest.param(SMALL + piece(b"x\0"), "and no U\\+0000", id="zero"),
        pytest.param(SMALL + piece(b"x" * 8000), "fewer than 8000 bytes", id="long"),
        pytest.param(SMALL + piece(b"c", float("nan")), "has the score nan", id="score"),
        pytest.param(SMALL + piece(b"c", -1, 9), "has the type 9, expected 1 to 6", id="type"),
        pytest.param(SMALL + piece(b"?", 0, 2), "2 of 4 pieces have the type unknown", id="two"),
        pytest.param(piece(b"a"), "0 of 1 pieces have the type unknown", id="no-unknown"),
        pytest.param(b"", "0 of 0 pieces", id="nothing"),
        pytest.param(SMALL + block(2, integer(40, 3)), "unk_id at byte 42 is 3, expected", id="id"),
        pytest.param(SMALL + block(2, integer(3, 3)), r"3 \(WORD\), which is not", id="word"),
        pytest.param(SMALL + block(2, integer(35, 1)), "there are 0 pieces of bytes", id="bytes"),
        pytest.param(SMALL + BYTES, "byte_fallback is False", id="no-fallback"),
        pytest.param(
            SMALL + piece(b"c", -1, 5) + block(2, integer(3, 2)), "type unused is not", id="unused"
        ),
        pytest.param(SMALL + block(5, block(2, b"rules")), "denormalizer_spec at byte", id="rules"),
    ],
)
def test_damage_is_refused_by_its_place(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_spiece_model(data)


@pytest.mark.parametrize(
    "rules", [b"abc", b"\x08\0\0\0" + b"\xff" * 8, b"\0\x04\0\0" + b"\1" * 1030]
)
def test_damaged_rules_are_refused(rules: bytes) -> None:
    parts = parts_of_spiece_model(SMALL + block(3, block(2, rules)))

    with pytest.raises(ValueError, match="charsmap is damaged"):
        parts.normalizers[0].build()


def is_read_or_refused(data: bytes) -> bool:
    try:
        parts_of_spiece_model(data)
    except ValueError:
        return True
    return True


@needs_data
def test_no_damage_raises_anything_else() -> None:
    data = pair("bpe").data
    generator = np.random.default_rng(0)
    places = generator.integers(0, len(data), 60)
    values = generator.integers(0, 256, 60).tolist()
    damaged = [
        data[:place] + bytes([value]) + data[place + 1 :]
        for place, value in zip(places.tolist(), values, strict=True)
    ]
    shortened = [data[:place] for place in places[:20].tolist()]

    assert all(map(is_read_or_refused, damaged + shortened))
