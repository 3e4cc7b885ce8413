"""The wire format of protocol buffers: fields of a message, each with the byte where it begins.

https://protobuf.dev/programming-guides/encoding/ - varints, fixed 32 and 64 bit words, and bytes of
a given length; groups are refused.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

__all__ = ["Field", "Kind", "Message", "read_fields"]

_MAX_VARINT_BYTES = 10


class _WireType(IntEnum):
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


class Kind(IntEnum):
    """What a field holds."""

    INTEGER = 0
    FLOAT = 1
    BYTES = 2
    TEXT = 3


_WIRE_TYPES = {
    Kind.INTEGER: _WireType.VARINT,
    Kind.FLOAT: _WireType.FIXED32,
    Kind.BYTES: _WireType.BYTES,
    Kind.TEXT: _WireType.BYTES,
}


@dataclass(frozen=True, slots=True)
class Message:
    """The fields that a message may have: number -> name and kind."""

    name: str
    fields: Mapping[int, tuple[str, Kind]]


class Field(NamedTuple):
    """One field. Of bytes and text, `begin` and `end` say where they are."""

    name: str
    position: int  # of its tag
    integer: int = 0  # signed, as int32 and int64 are read
    number: float = 0.0
    begin: int = 0
    end: int = 0


def read_fields(data: bytes, begin: int, end: int, message: Message) -> Iterator[Field]:
    """The fields of data[begin:end].

    Raises:
        ValueError: names the byte where the data are damaged or hold an unknown field.
    """
    position = begin
    while position < end:
        tag, body = _varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        known = message.fields.get(number)
        if known is None:
            raise ValueError(
                f"{message.name} has the unknown field {number} at byte {position}; expected "
                f"one of {', '.join(map(str, message.fields))}"
            )
        name, kind = known
        if wire_type != _WIRE_TYPES[kind]:
            raise ValueError(
                f"{message.name}.{name} at byte {position} has wire type {wire_type}, expected "
                f"{_WIRE_TYPES[kind].value}"
            )
        if wire_type == _WireType.VARINT:
            value, following = _varint(data, body, end)
            signed = value - (1 << 64) if value >> 63 else value
            yield Field(name, position, integer=signed)
        elif wire_type == _WireType.FIXED32:
            following = body + 4
            _require(following <= end, f"{message.name}.{name}", position, end)
            yield Field(name, position, number=struct.unpack_from("<f", data, body)[0])
        else:
            size, start = _varint(data, body, end)
            following = start + size
            _require(following <= end, f"{message.name}.{name}", position, end)
            yield Field(name, position, begin=start, end=following)
        position = following


def _require(is_inside: bool, name: str, position: int, end: int) -> None:
    if not is_inside:
        raise ValueError(f"{name} at byte {position} goes beyond byte {end}, where its parent ends")


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at `position` and the position behind it."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        at = position + index
        if at >= end:
            raise ValueError(f"the data end at byte {end} within the number at byte {position}")
        value |= (data[at] & 0x7F) << (7 * index)
        if data[at] < 0x80:
            if value >> 64:
                break
            return value, at + 1
    raise ValueError(f"the number at byte {position} has more than 64 bits")
