"""The metadata of a GGUF file, read without its tensors.

The gguf library reads every number of a list as an array of its own, and goes on for as long as a
damaged length says, even behind the end of the file. Here each length is held against what is left.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Value", "read_metadata"]

Value: TypeAlias = bool | int | float | str | list[str] | NDArray[np.generic]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS: Mapping[int, str] = {
    0: "u1",
    1: "i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    _BOOL: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}


def read_metadata(path: Path, prefix: str) -> dict[str, Value]:
    """The values of the keys that begin with `prefix`, by the rest of the key.

    Raises:
        ValueError: the file is damaged or of a version that is not supported; names the byte.
    """
    with path.open("rb") as file:
        if len(file.peek(1)) == 0:
            raise ValueError("the file is empty; expected a GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).values(prefix)


class _Reader:
    """What follows one behind the other in a file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._position = 0

    def values(self, prefix: str) -> dict[str, Value]:
        magic = self._bytes(len(_MAGIC), "the magic")
        if magic != _MAGIC:
            raise ValueError(f"the file begins with {magic!r}, expected {_MAGIC!r}")
        version = int(self._scalar("<u4", "the version"))
        if version not in _VERSIONS:
            raise ValueError(
                f"the version of GGUF is {version}; expected one of {_VERSIONS} in the byte order "
                "of small endians"
            )
        self._scalar("<u8", "the number of tensors")
        count = int(self._scalar("<u8", "the number of keys"))
        values: dict[str, Value] = {}
        for _ in range(count):
            at = self._position
            key = self._text("a key")
            value = self._value(key)
            name = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if name in values:
                raise ValueError(f"the key {key!r} at byte {at} is there already")
            values[name] = value
        return values

    def _value(self, key: str) -> Value:
        kind = int(self._scalar("<u4", f"the type of {key}"))
        if kind == _STRING:
            return self._text(key)
        if kind == _ARRAY:
            return self._array(key)
        number = self._scalar(self._dtype(key, kind), key).item()
        assert isinstance(number, bool | int | float)
        return number

    def _array(self, key: str) -> Value:
        kind = int(self._scalar("<u4", f"the type of {key}"))
        count = int(self._scalar("<u8", f"the length of {key}"))
        if kind == _STRING:
            # each has eight bytes for its length at least
            self._require(8 * count, key)
            return [self._text(f"{key}[{i}]") for i in range(count)]
        dtype = np.dtype(self._dtype(key, kind))
        return np.frombuffer(self._bytes(dtype.itemsize * count, key), dtype)

    def _dtype(self, key: str, kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(
                f"{key} has the type {kind} at byte {self._position}, expected 0 to 12, and no "
                "lists of lists"
            )
        return _SCALARS[kind]

    def _scalar(self, dtype: str, name: str) -> np.generic:
        kind = np.dtype(dtype)
        scalar: np.generic = np.frombuffer(self._bytes(kind.itemsize, name), kind)[0]
        return scalar

    def _text(self, name: str) -> str:
        (size,) = struct.unpack("<Q", self._bytes(8, name))
        begin = self._position
        try:
            return self._bytes(size, name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name} has invalid UTF-8 at byte {begin + error.start} of the file"
            ) from error

    def _bytes(self, size: int, name: str) -> bytes:
        self._require(size, name)
        begin = self._position
        self._position += size
        return self._data[begin : begin + size]

    def _require(self, size: int, name: str) -> None:
        left = len(self._data) - self._position
        if size > left:
            raise ValueError(
                f"{name} at byte {self._position} needs {size} bytes, but the file ends after "
                f"{left}"
            )
