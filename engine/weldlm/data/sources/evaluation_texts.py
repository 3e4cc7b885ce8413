"""All texts of an evaluation set: questions, contexts, answers, in whatever columns they stand."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from weldlm.data.corpus import Document
from weldlm.data.row_files import read_rows
from weldlm.data.rows import BadRow, Row
from weldlm.data.sources.arrow_rows import arrow_columns, read_arrow
from weldlm.data.sources.reading import ReadSettings, read_source
from weldlm.data.sources.source_files import SourceFile, find_sources

__all__ = ["evaluation_files", "read_evaluation"]

_ROWS = (".json", ".conll", ".bio")  # of evaluation sets, and no sources of a corpus


def read_evaluation(path: str | Path) -> Iterator[str]:
    """Yields the texts of a file or folder; lines of text count as texts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row cannot be read.
    """
    for file in evaluation_files(path):
        for found in _read(file):
            if isinstance(found, BadRow):
                raise ValueError(f"{found} (every row of an evaluation set counts)")
            yield from _texts(found.fields if isinstance(found, Row) else found.text.split("\n"))


def evaluation_files(path: str | Path) -> list[SourceFile]:
    """The files of an evaluation set.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of no known kind.
    """
    path = Path(path)
    if path.is_file() and path.suffix in _ROWS:
        state = path.stat()
        return [SourceFile(path, path.name, "jsonl", state.st_size, state.st_mtime_ns)]
    return find_sources([path]).files


def _read(file: SourceFile) -> Iterable[Row | BadRow | Document]:
    if file.path.suffix in _ROWS:
        return read_rows(file.path)
    match file.kind:
        case "csv" | "tsv" | "jsonl":
            return read_rows(file.path, file_format=file.kind)
        case "parquet" | "arrow":
            return read_arrow(file.path, arrow_columns(file.path))
        case _:
            return read_source(file, ReadSettings())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
