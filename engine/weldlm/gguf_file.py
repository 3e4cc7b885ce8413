"""What a GGUF file holds: its metadata, and where its tensors lie.

The layout is that of ggml (its docs/gguf.md), versions 2 and 3. The header is read here and not by
the gguf library, whose reader makes an array of every element: seconds for a vocabulary. The sizes
of tensor types and the values of quantized tensors are the library's.
"""

import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GgufFile", "GgufTensor", "is_gguf"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
# kinds of metadata by their number; strings and arrays apart
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_MOST_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where a tensor lies."""

    shape: tuple[int, ...]
    type_name: str  # such as F16 or Q4_K
    begin: int  # byte of the file
    num_bytes: int


class GgufFile:
    """The metadata `fields` and the `tensors` of a file, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged; names the field and the byte.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; expected a GGUF file")
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise ValueError(f"{path} is no GGUF file; expected it to begin with GGUF")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                self.fields, self.tensors = _Header(path, data).read()

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)

    def require(self, name: str) -> Any:
        """Returns a field.

        Raises:
            ValueError: the file lacks it.
        """
        if name not in self.fields:
            raise ValueError(f"{self.path} lacks the field {name!r}; expected a whole model")
        return self.fields[name]

    def stored(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor, a view of the file: its shape, with bytes in the last place."""
        tensor = self.tensors[name]
        # copy-on-write: torch refuses to view what cannot be written
        data = np.memmap(self.path, np.uint8, "c", tensor.begin, (tensor.num_bytes,))
        return data.view(np.ndarray).reshape(*tensor.shape[:-1], -1)

    def values(self, name: str) -> NDArray[np.float32]:
        """The numbers of a tensor in fp32."""
        import gguf

        kind = gguf.GGMLQuantizationType[self.tensors[name].type_name]
        data = self.stored(name)
        if kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            data = data.view(np.float32 if kind == gguf.GGMLQuantizationType.F32 else np.float16)
        try:
            return np.asarray(gguf.dequantize(data, kind), dtype=np.float32)
        except NotImplementedError as error:
            raise ValueError(
                f"{self.path}: the tensor {name!r} is in {kind.name}, which is not supported; "
                "expected F32, F16, BF16, Q8_0, Q4_0, Q4_1 or a K-quant"
            ) from error


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF does."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


class _Header:
    """Reads one part after the other; every size is checked before it is used."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._place = path, data, 4
        self._what = "header"

    def read(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        version = self._scalar("<I")
        if version not in _VERSIONS:
            raise ValueError(
                f"{self._path} has GGUF version {version}; expected 2 or 3, little-endian"
            )
        num_tensors, num_fields = self._count(24), self._count(12)
        fields: dict[str, Any] = {}
        for number in range(num_fields):
            self._what = f"field {number}"
            name = self._string()
            self._what = f"field {name[:80]!r}"
            if name in fields:
                raise self._damage("is given twice")
            fields[name] = self._value(self._scalar("<I"))
        found = [self._tensor(number) for number in range(num_tensors)]
        alignment = fields.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(
                f"{self._path}: general.alignment is {alignment!r}; expected a power of two"
            )
        first = -(-self._place // alignment) * alignment
        return fields, self._placed(found, first)

    def _placed(self, found: Sequence[tuple[str, GgufTensor]], first: int) -> dict[str, GgufTensor]:
        tensors: dict[str, GgufTensor] = {}
        for name, tensor in found:
            begin = first + tensor.begin
            self._what = f"tensor {name[:80]!r}"
            if name in tensors:
                raise self._damage("is given twice")
            if begin + tensor.num_bytes > len(self._data):
                raise self._damage(
                    f"ends at byte {begin + tensor.num_bytes}, but the file has {len(self._data)}"
                )
            tensors[name] = GgufTensor(tensor.shape, tensor.type_name, begin, tensor.num_bytes)
        return tensors

    def _tensor(self, number: int) -> tuple[str, GgufTensor]:
        """With its begin counted from the first tensor."""
        from gguf import GGML_QUANT_SIZES

        self._what = f"tensor {number}"
        name = self._string()
        self._what = f"tensor {name[:80]!r}"
        num_dimensions = self._scalar("<I")
        if not 1 <= num_dimensions <= _MOST_DIMENSIONS:
            raise self._damage(f"has {num_dimensions} dimensions; expected 1 to 4")
        # innermost first in the file
        shape = tuple(reversed([self._scalar("<Q") for _ in range(num_dimensions)]))
        kind, begin = self._scalar("<I"), self._scalar("<Q")
        known = {int(known): known for known in GGML_QUANT_SIZES}
        if kind not in known:
            raise self._damage(f"is of the unknown type {kind}")
        block, num_bytes = GGML_QUANT_SIZES[known[kind]]
        if min(shape) < 1 or shape[-1] % block:
            raise self._damage(f"has shape {shape}; expected rows of a multiple of {block}")
        size = math.prod(shape) // block * num_bytes
        return name, GgufTensor(shape, known[kind].name, begin, size)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise self._damage(f"is of the unknown type {kind}")
        return self._scalar(_SCALARS[kind])

    def _array(self) -> list[Any]:
        kind = self._scalar("<I")
        if kind == _STRING:
            return [self._string() for _ in range(self._count(8))]
        if kind not in _SCALARS:
            raise self._damage(f"is an array of the unknown type {kind}")
        size = struct.calcsize(_SCALARS[kind])
        count = self._count(size)
        form = f"<{count}{_SCALARS[kind][1:]}"
        return list(struct.unpack(form, self._take(count * size)))

    def _count(self, least_bytes: int) -> int:
        """A number of things that take at least so many bytes each."""
        count: int = self._scalar("<Q")
        if count * least_bytes > len(self._data) - self._place:
            raise self._damage(f"has the size {count}, but the file ends at {len(self._data)}")
        return count

    def _string(self) -> str:
        begin = self._place
        try:
            return self._take(self._count(1)).decode("utf-8")
        except UnicodeDecodeError as error:
            self._place = begin
            raise self._damage("is not UTF-8") from error

    def _scalar(self, kind: str) -> Any:
        (value,) = struct.unpack(kind, self._take(struct.calcsize(kind)))
        return value

    def _take(self, num_bytes: int) -> bytes:
        begin, end = self._place, self._place + num_bytes
        if end > len(self._data):
            raise self._damage(f"is cut off; the file ends at {len(self._data)}")
        self._place = end
        return self._data[begin:end]

    def _damage(self, what: str) -> ValueError:
        return ValueError(
            f"{self._path} is damaged: {self._what} at byte {self._place} {what}; get it again"
        )
