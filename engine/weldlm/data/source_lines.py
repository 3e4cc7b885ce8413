"""Lines of a file from outside, plain or .gz, each with the place that a message can name."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from weldlm.text_file import decode_text

__all__ = ["MOST_LINE_BYTES", "SourceLine", "open_source", "read_lines", "read_whole"]

MOST_LINE_BYTES = 1 << 24  # a longer line is no row of text; it is passed over in pieces

_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line without its end, and what is wrong with it."""

    number: int  # from 1
    text: str = ""  # as far as it can be read
    error: str | None = None


def open_source(path: Path) -> BinaryIO:
    """Opens a file for reading bytes, unpacked where its name ends in .gz.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file of rows; check the path")
    return cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_lines(file: BinaryIO, name: str) -> Iterator[SourceLine]:
    """Yields the lines; one that is overlong or not UTF-8 has an error.

    Raises:
        ValueError: a .gz file is damaged.
    """
    number = 0
    while True:
        number += 1
        line = _read(file, name, number)
        if not line:
            return
        if not line.endswith(b"\n") and len(line) > MOST_LINE_BYTES:
            _pass_over(file, name, number)
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
        ValueError: it is not UTF-8, or a damaged .gz file.
    """
    try:
        return decode_text(file.read(), name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(name, error) from error


def _decode(line: bytes, *, is_start: bool) -> str:
    mark = _OTHER_MARKS.get(line[:2]) if is_start else None
    if mark is not None:
        raise ValueError(f"the file is {mark}; expected UTF-8; convert it")
    return decode_text(line.rstrip(b"\r\n"), "the line", is_start=is_start)


def _read(file: BinaryIO, name: str, number: int) -> bytes:
    try:
        return file.readline(MOST_LINE_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(f"{name}:{number}", error) from error


def _pass_over(file: BinaryIO, name: str, number: int) -> None:
    """Reads to the end of the line in pieces, so that none lies in memory whole."""
    while piece := _read(file, name, number):
        if piece.endswith(b"\n"):
            return


def _damaged(place: str, error: Exception) -> ValueError:
    return ValueError(
        f"{place} is damaged ({error}); expected a whole .gz file; copy or pack it again"
    )
