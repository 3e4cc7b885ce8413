"""Documents of one file of any kind; what is wrong in it stands beside its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from weldlm.data.corpus import Document
from weldlm.data.rows import BadRow
from weldlm.data.source_lines import open_source
from weldlm.data.sources.source_files import SourceFile
from weldlm.data.sources.table_documents import read_table
from weldlm.data.sources.text_documents import python_encoding, read_python, read_text
from weldlm.data.sources.web_pages import read_web_page

__all__ = ["ReadSettings", "read_source"]


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """What files do not say about themselves."""

    text_column: str | None = None  # of tables
    separator: str | None = None  # a line between the documents of a text file


def read_source(source: SourceFile, settings: ReadSettings) -> Iterator[Document | BadRow]:
    """Yields the documents of a file, and what cannot be read; a damaged file ends with that.

    Raises:
        ModuleNotFoundError: a package that reads such files is not installed.
    """
    is_empty = source.is_prose
    try:
        for found in _read(source, settings):
            is_empty = False
            yield found
        if is_empty:
            yield BadRow(f"{source.path}:1", "the file is empty; expected text; leave it out")
    except ValueError as error:
        yield _bad_file(str(source.path), str(error))


def _read(source: SourceFile, settings: ReadSettings) -> Iterator[Document | BadRow]:
    path, name = str(source.path), source.name
    match source.kind:
        case "text" | "code":
            encoding = _own_encoding(source)
            with open_source(source.path) as file:
                if encoding is not None:
                    yield from read_python(file, path, name, encoding)
                else:
                    separator = settings.separator if source.kind == "text" else None
                    yield from read_text(file, path, name, separator=separator)
        case "html":
            with open_source(source.path) as file:
                yield read_web_page(file, path, name)
        case _:
            yield from read_table(source, settings.text_column)


def _bad_file(path: str, error: str) -> BadRow:
    """What is wrong with a file as a whole, and the line where the message names one."""
    found = re.match(re.escape(path) + r"(:\d+)?:? ", error)
    if found is None:
        return BadRow(path, error)
    return BadRow(f"{path}{found[1] or ''}", error[found.end() :])


def _own_encoding(source: SourceFile) -> str | None:
    """What a Python source declares, where that is not UTF-8."""
    if source.path.suffix != ".py":
        return None
    with source.path.open("rb") as file:
        encoding = python_encoding(file)
    return None if encoding in ("utf-8", "utf-8-sig") else encoding
