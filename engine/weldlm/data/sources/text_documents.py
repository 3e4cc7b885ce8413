"""Documents from plain text: a file is one, or several where a line stands between them.

A file is read in blocks of whole lines, so that it may be larger than the memory; one that fills
more than a block makes a document a block.
"""

import re
import tokenize
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from weldlm.data.corpus import Document
from weldlm.data.rows import BadRow
from weldlm.data.source_lines import MOST_LINE_BYTES, named_damage, pass_over_line
from weldlm.text_file import decode_text

__all__ = ["python_encoding", "read_python", "read_text"]

_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_MIB = 1 << 20
_MOST_DECLARATION = 1 << 12  # bytes of a line that may declare an encoding

Block = tuple[int, bytes | None]  # number of its first line, and its bytes; None: a line too long


def read_text(
    file: BinaryIO,
    path: str,
    name: str,
    *,
    separator: str | None = None,
    block_bytes: int = MOST_LINE_BYTES,
) -> Iterator[Document | BadRow]:
    """Yields the documents of a text file.

    Args:
        file: its bytes.
        path: of the file, in messages.
        name: of its documents; those behind the first one have their line behind it.
        separator: a line that stands between documents; an empty one stands for empty lines.
        block_bytes: most bytes of a document, and of a line.

    Raises:
        ValueError: a packed file is damaged.
    """
    between = None if separator is None else _pattern(separator)
    for number, block in _blocks(file, path, block_bytes, between):
        if block is None:
            yield BadRow(
                f"{path}:{number}",
                f"the line has more than {block_bytes / _MIB:,.0f} MiB; expected lines of text; "
                "break or leave it out",
            )
            continue
        for line, piece in (
            [(number, block)] if between is None else _pieces(block, number, between)
        ):
            text = _decode(piece, path, line)
            if isinstance(text, BadRow):
                yield text
            else:
                yield Document(name if line == 1 else f"{name}:{line}", text)


def read_python(file: BinaryIO, path: str, name: str, encoding: str) -> Iterator[Document | BadRow]:
    """Yields the document of a Python source in an encoding of its own."""
    data = _fill(file, MOST_LINE_BYTES)
    try:
        yield Document(name, data.decode(encoding))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield BadRow(f"{path}:{line}", f"the file declares {encoding}, which this is not; mend it")


def python_encoding(file: BinaryIO) -> str:
    """The encoding that a Python source declares; UTF-8 also where that cannot be told."""
    try:
        return tokenize.detect_encoding(partial(file.readline, _MOST_DECLARATION))[0]
    except SyntaxError:
        return "utf-8"  # reading it will say what is wrong


def _pattern(separator: str) -> re.Pattern[bytes]:
    if not separator.strip():
        return re.compile(rb"^(?:[ \t]*\r?\n)+", re.MULTILINE)
    return re.compile(rb"^" + re.escape(separator.encode()) + rb"[ \t]*\r?(?:\n|\Z)", re.MULTILINE)


def _blocks(
    file: BinaryIO, path: str, block_bytes: int, between: re.Pattern[bytes] | None
) -> Iterator[Block]:
    """Cuts a file behind the last separator in each block, or behind its last line."""
    rest, number = b"", 1
    while True:
        with named_damage(f"{path}:{number}"):
            data = rest + _fill(file, block_bytes - len(rest))
        if len(data) < block_bytes:
            if data:
                yield number, data
            return
        cut = _last_cut(data, between)
        if cut == 0:
            with named_damage(f"{path}:{number}"):
                pass_over_line(file, path, number)
            yield number, None
            rest, number = b"", number + 1
            continue
        yield number, data[:cut]
        number += data.count(b"\n", 0, cut)
        rest = data[cut:]


def _last_cut(data: bytes, between: re.Pattern[bytes] | None) -> int:
    last_line = data.rfind(b"\n") + 1
    if between is None:
        return last_line
    ends = [found.end() for found in between.finditer(data, 0, last_line)]
    return ends[-1] if ends else last_line


def _fill(file: BinaryIO, size: int) -> bytes:
    """Reads `size` bytes, fewer only at the end; unpacking may hand out fewer at a time."""
    pieces: list[bytes] = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _pieces(block: bytes, number: int, between: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
    """The documents of a block that are not empty, each with its first line."""
    begin = 0
    for found in [*between.finditer(block), None]:
        end = len(block) if found is None else found.start()
        if block[begin:end].strip():
            yield number, block[begin:end]
        if found is not None:
            number += block.count(b"\n", begin, found.end())
            begin = found.end()


def _decode(piece: bytes, path: str, line: int) -> str | BadRow:
    mark = _MARKS.get(piece[:2]) if line == 1 else None
    if mark is not None:
        return BadRow(f"{path}:1", f"the file is {mark}; expected UTF-8; convert it")
    try:
        return decode_text(piece, path, is_start=line == 1)
    except ValueError as error:
        cause = error.__cause__
        assert isinstance(cause, UnicodeDecodeError)
        line += cause.object.count(b"\n", 0, cause.start)
        byte = cause.object[cause.start]
        problem = f"the line is not UTF-8 (byte 0x{byte:02x})"
        return BadRow(f"{path}:{line}", f"{problem}; convert or leave it out")
