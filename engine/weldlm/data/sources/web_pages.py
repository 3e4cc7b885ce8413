"""The text of HTML files; what is content in it, cleaning finds out."""

import codecs
import re
from typing import BinaryIO

from weldlm.data.corpus import Document
from weldlm.data.rows import BadRow
from weldlm.data.source_lines import MOST_LINE_BYTES, named_damage
from weldlm.text_file import decode_text

__all__ = ["read_web_page"]

_START = 1 << 12  # bytes in which a page names its encoding
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


def read_web_page(file: BinaryIO, path: str, name: str) -> Document | BadRow:
    """Reads a page in UTF-8 or the encoding that it names.

    Raises:
        ValueError: a packed file is damaged.
    """
    with named_damage(path):
        data = file.read(MOST_LINE_BYTES + 1)
    if len(data) > MOST_LINE_BYTES:
        return BadRow(path, f"the page has more than {MOST_LINE_BYTES >> 20} MiB; leave it out")
    try:
        return Document(name, decode_text(data, "the page"), is_web_page=True)
    except ValueError as error:
        named = _CHARSET.search(data[:_START])
        if named is None:
            return BadRow(path, f"{error}, or name its charset")
        return _decode(data, path, name, named[1].decode())


def _decode(data: bytes, path: str, name: str, charset: str) -> Document | BadRow:
    try:
        if codecs.lookup(charset).name == "utf-8":
            raise ValueError("it is not")
        return Document(name, data.decode(charset), is_web_page=True)
    except (LookupError, ValueError) as error:
        problem = f"the page names the charset {charset} ({error})"
        return BadRow(path, f"{problem}; expected text in it; convert or leave it out")
