"""Lines of a file from outside, plain, .gz or .zst, each with the place that a message can name."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from weldlm.extra_packages import require_extra
from weldlm.text_file import decode_text

__all__ = [
    "MOST_LINE_BYTES",
    "SourceLine",
    "named_damage",
    "open_source",
    "pass_over_line",
    "read_lines",
    "read_whole",
]

MOST_LINE_BYTES = 1 << 24  # a longer line is no row of text; it is passed over in pieces

_PACKED = (".gz", ".zst")
_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line without its end, and what is wrong with it."""

    number: int  # from 1
    text: str = ""  # as far as it can be read
    error: str | None = None


def open_source(path: Path) -> BinaryIO:
    """Opens a file for reading bytes, unpacked where its name ends in .gz or .zst.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: it is .zst, and pyarrow is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file of rows; check the path")
    match path.suffix:
        case ".gz":
            return cast("BinaryIO", gzip.open(path))
        case ".zst":
            # zstandard takes a file that was cut off for a whole one; Arrow does not
            arrow = require_extra("pyarrow", "data", f"{path} is .zst, which")
            return cast("BinaryIO", BufferedReader(arrow.input_stream(path, compression="zstd")))
    return path.open("rb")


@contextmanager
def named_damage(place: str) -> Iterator[None]:
    """Names the place where packed bytes of a file cannot be unpacked.

    Raises:
        ValueError: they cannot.
    """
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the operating system
        kind = next((suffix for suffix in _PACKED if suffix in place), "packed")
        raise ValueError(
            f"{place} is damaged ({error}); expected a whole {kind} file; copy or pack it again"
        ) from error


def read_lines(file: BinaryIO, name: str) -> Iterator[SourceLine]:
    """Yields the lines; one that is overlong or not UTF-8 has an error.

    Raises:
        ValueError: a packed file is damaged.
    """
    number = 0
    while True:
        number += 1
        line = _read(file, name, number)
        if not line:
            return
        if not line.endswith(b"\n") and len(line) > MOST_LINE_BYTES:
            pass_over_line(file, name, number)
            problem = f"the line has more than {MOST_LINE_BYTES >> 20} MiB"
            yield SourceLine(number, error=f"{problem}; expected one row a line; cut or mend it")
            continue
        try:
            yield SourceLine(number, _decode(line, is_start=number == 1))
        except ValueError as error:
            yield SourceLine(number, line.rstrip(b"\r\n").decode(errors="replace"), str(error))


def read_whole(file: BinaryIO, name: str) -> str:
    """Reads a file that is one value.

    Raises:
        ValueError: it is not UTF-8, or a damaged packed file.
    """
    with named_damage(name):
        return decode_text(file.read(), name)


def pass_over_line(file: BinaryIO, name: str, number: int) -> None:
    """Reads to the end of the line in pieces, so that none lies in memory whole."""
    while piece := _read(file, name, number):
        if piece.endswith(b"\n"):
            return


def _decode(line: bytes, *, is_start: bool) -> str:
    mark = _OTHER_MARKS.get(line[:2]) if is_start else None
    if mark is not None:
        raise ValueError(f"the file is {mark}; expected UTF-8; convert it")
    return decode_text(line.rstrip(b"\r\n"), "the line", is_start=is_start)


def _read(file: BinaryIO, name: str, number: int) -> bytes:
    with named_damage(f"{name}:{number}"):
        return file.readline(MOST_LINE_BYTES + 1)
