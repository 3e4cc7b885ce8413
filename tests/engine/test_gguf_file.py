"""GGUF files: read as the gguf library reads them, and damaged ones refused by name."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from tests.engine.gguf_files import random_blocks
from weldlm.gguf_file import GgufFile

SHAPE = (3, 512)
QUANTIZED = (Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1)
K_QUANTS = (Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K)


def write(path: Path, **tensors: tuple[Any, Kind]) -> bytes:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -3)
    writer.add_uint16("a.u16", 60_000)
    writer.add_int16("a.i16", -30_000)
    writer.add_int32("a.i32", -5)
    writer.add_float32("a.f32", 0.25)
    writer.add_bool("a.bool", True)
    writer.add_uint64("a.u64", 2**63)
    writer.add_int64("a.i64", -(2**62))
    writer.add_float64("a.f64", 1e-300)
    writer.add_array("a.texts", ["one", "", "\u00fc"])
    writer.add_array("a.numbers", [1, 2, 3])
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def numbers() -> np.ndarray:
    return np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)


def test_fields_are_those_that_the_library_reads(tmp_path: Path) -> None:
    write(tmp_path / "x.gguf", w=(numbers(), Kind.F32))

    fields = GgufFile(tmp_path / "x.gguf").fields

    theirs = gguf.GGUFReader(tmp_path / "x.gguf").fields
    expected = {name: field.contents() for name, field in theirs.items() if "GGUF." not in name}
    assert fields == expected


@pytest.mark.parametrize("kind", [*QUANTIZED, *K_QUANTS], ids=lambda kind: kind.name)
def test_values_are_those_of_the_library(tmp_path: Path, kind: Kind) -> None:
    is_written = kind in QUANTIZED
    data = gguf.quantize(numbers(), kind) if is_written else random_blocks(SHAPE, kind)
    write(tmp_path / "x.gguf", before=(numbers(), Kind.F32), w=(data, kind))

    values = GgufFile(tmp_path / "x.gguf").values("w")

    (theirs,) = (x for x in gguf.GGUFReader(tmp_path / "x.gguf").tensors if x.name == "w")
    np.testing.assert_array_equal(values, gguf.dequantize(theirs.data, kind))
    assert values.shape == SHAPE
    assert values.std() > 0


def test_a_known_block_of_q4_0_has_its_values(tmp_path: Path) -> None:
    # 16 bytes with the low halves first; a number is scale * (half - 8)
    block = np.frombuffer(struct.pack("<e", 0.5) + bytes(range(0, 256, 17)), dtype=np.uint8)
    write(tmp_path / "x.gguf", w=(block.reshape(1, 18), Kind.Q4_0))

    values = GgufFile(tmp_path / "x.gguf").values("w")

    np.testing.assert_array_equal(values[0], np.tile(np.arange(16) - 8, 2) * 0.5)


def test_a_type_without_values_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "x.gguf", w=(np.zeros((2, 4), dtype=np.int32), Kind.I32))

    with pytest.raises(ValueError, match="the tensor 'w' is in I32, which is not supported"):
        GgufFile(tmp_path / "x.gguf").values("w")


@pytest.mark.parametrize("size", [0, 4, 10, 24, 30, 60, 200, 450, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    data = write(tmp_path / "x.gguf", w=(numbers(), Kind.F32))
    (tmp_path / "x.gguf").write_bytes(data[:size])

    with pytest.raises(ValueError, match=r"x\.gguf (is damaged|is no GGUF file|has GGUF version)"):
        GgufFile(tmp_path / "x.gguf")


def header(version: int = 3, num_tensors: int = 0, num_fields: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_fields)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def field(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(*dimensions: int, kind: int = 0, begin: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
    return text("w") + sizes + struct.pack("<IQ", kind, begin)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(version=1), "has GGUF version 1; expected 2 or 3"),
        (header(version=3 << 24), "has GGUF version 50331648; expected 2 or 3, little-endian"),
        (header(num_tensors=2**60), "header at byte 16 has the size 1152921504606846976"),
        (header(num_fields=2**60), "header at byte 24 has the size 1152921504606846976"),
        (header(num_fields=1) + struct.pack("<Q", 2**62) + bytes(20), "field 0 .* has the size"),
        (header(num_fields=1) + field("a", 99, bytes(9)), "field 'a' .* unknown type 99"),
        (
            header(num_fields=1) + field("a", 9, struct.pack("<IQ", 8, 2**62)) + bytes(9),
            "field 'a' .* has the size 4611686018427387904",
        ),
        (
            header(num_fields=1) + field("a", 9, struct.pack("<IQ", 9, 1)) + bytes(9),
            "field 'a' .* is an array of the unknown type 9",
        ),
        (header(num_fields=1) + field("a", 8, b"\1" + bytes(7) + b"\xff"), "'a' .* is not UTF-8"),
        (header(num_fields=2) + 2 * field("a", 0, b"1") + bytes(9), "field 'a' .* is given twice"),
        (header(num_tensors=1) + tensor(*[1] * 5), "tensor 'w' .* has 5 dimensions; expected 1"),
        (header(num_tensors=1) + tensor(2, 0), "tensor 'w' .* has shape .0, 2.; expected rows"),
        (header(num_tensors=1) + tensor(31, kind=2), "expected rows of a multiple of 32"),
        (header(num_tensors=1) + tensor(4, kind=77), "tensor 'w' .* is of the unknown type 77"),
        (header(num_tensors=1) + tensor(2**60, 2**60), "tensor 'w' .* ends at byte"),
        (header(num_tensors=1) + tensor(1, begin=2**63), "tensor 'w' .* ends at byte"),
        (
            header(num_fields=1) + field("general.alignment", 4, struct.pack("<I", 33)),
            "general.alignment is 33; expected a power of two",
        ),
    ],
)
def test_damage_is_named_with_its_place(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.gguf").write_bytes(data)

    with pytest.raises(ValueError, match=message):
        GgufFile(tmp_path / "x.gguf")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    write(tmp_path / "x.gguf")

    with pytest.raises(ValueError, match=r"lacks the field 'llama\.block_count'; expected a whole"):
        GgufFile(tmp_path / "x.gguf").require("llama.block_count")
