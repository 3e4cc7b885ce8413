"""Documents from rows: the text of one column each."""

from collections.abc import Iterable, Iterator, Sequence

from weldlm.data.column_names import TEXT_NAMES, find_name
from weldlm.data.corpus import Document
from weldlm.data.delimited import read_csv, read_tsv
from weldlm.data.json_rows import read_jsonl
from weldlm.data.rows import BadRow, Reader, Row
from weldlm.data.source_lines import MOST_LINE_BYTES, open_source
from weldlm.data.sources.arrow_rows import arrow_columns, read_arrow
from weldlm.data.sources.source_files import SourceFile, SourceKind
from weldlm.text_file import require_whole_characters

__all__ = ["read_table"]

_READERS: dict[SourceKind, Reader] = {"csv": read_csv, "tsv": read_tsv, "jsonl": read_jsonl}
_SHOWN = 40  # characters of a value in a message


def read_table(source: SourceFile, text_column: str | None) -> Iterator[Document | BadRow]:
    """Yields the documents of a table.

    Args:
        source: CSV, TSV, JSON lines, Parquet or Arrow.
        text_column: that holds the texts; by its usual name where None.

    Raises:
        ValueError: the file is damaged, has no such column, or it cannot be told which it is.
    """
    column, path = text_column, str(source.path)
    for row in _rows(source, text_column):
        if isinstance(row, Row):
            column = column or _text_column(list(row.fields), row.place)
            yield _document(row, column, source.name + row.place.removeprefix(path))
        else:
            yield row


def _rows(source: SourceFile, text_column: str | None) -> Iterable[Row | BadRow]:
    read = _READERS.get(source.kind)
    if read is None:
        column = text_column or _text_column(arrow_columns(source.path), str(source.path))
        yield from read_arrow(source.path, [column])
        return
    with open_source(source.path) as file:
        rows = read(file, str(source.path), () if text_column is None else (text_column,))
        if source.kind == "jsonl" or text_column is None:
            yield from rows
        else:
            yield from _with_column(rows, text_column)


def _with_column(rows: Iterable[Row | BadRow], column: str) -> Iterator[Row | BadRow]:
    """The rows of a table, whose columns are those of its first one."""
    for row in rows:
        if isinstance(row, Row):
            _require_column(row, column)
        yield row


def _require_column(row: Row, column: str) -> None:
    if column not in row.fields:
        known = ", ".join(row.fields)
        raise ValueError(f"{row.place}: there is no column {column!a}, but {known}; name another")


def _text_column(columns: Sequence[str], place: str) -> str:
    found = columns[0] if len(columns) == 1 else find_name(columns, TEXT_NAMES)
    if found is None:
        raise ValueError(
            f"{place}: none of the columns {', '.join(columns)} is known to hold texts; expected "
            f"one named {', '.join(TEXT_NAMES[:4])} or the like; name it with text_column"
        )
    return found


def _document(row: Row, column: str, name: str) -> Document | BadRow:
    if column not in row.fields:
        known = ", ".join(row.fields)
        return BadRow(row.place, f"there is no {column!a}, but {known}; mend or leave it out")
    value = row.fields[column]
    if value is None:
        value = ""  # as tables spell an empty text
    if not isinstance(value, str):
        shown = f"{value!a:.{_SHOWN}}"
        return BadRow(row.place, f"{column!a} is {shown}; expected a text; mend or leave it out")
    if len(value) > MOST_LINE_BYTES:
        most = f"{MOST_LINE_BYTES >> 20} MiB"
        return BadRow(row.place, f"the text has more than {most}; cut or leave it out")
    try:
        require_whole_characters(value, "the text")
    except ValueError as error:
        return BadRow(row.place, str(error))
    return Document(name, value)
