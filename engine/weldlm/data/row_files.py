"""Files and folders of rows: the format by the name's ending, the columns, and typed rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from weldlm.data.columns import Columns, find_columns
from weldlm.data.conll import read_conll
from weldlm.data.delimited import read_csv, read_tsv
from weldlm.data.json_rows import read_jsonl
from weldlm.data.labelled_rows import Chat, LabelledText, LabelledWords, Question, SourceTarget
from weldlm.data.row_types import to_chat, to_number, to_question, to_target, to_text, to_words
from weldlm.data.rows import BadRow, OnError, Reader, Row, keep_good
from weldlm.data.source_lines import open_source
from weldlm.data.squad import read_squad

__all__ = [
    "FORMATS",
    "Format",
    "RowFile",
    "RowKind",
    "TypedRow",
    "format_of",
    "read_labelled",
    "read_rows",
    "to_typed",
]

Format = Literal["tsv", "csv", "jsonl", "conll", "squad"]
RowKind = Literal["texts", "numbers", "words", "questions", "targets", "chats"]
TypedRow: TypeAlias = LabelledText | LabelledWords | Question | SourceTarget | Chat

FORMATS: dict[Format, Reader] = {
    "tsv": read_tsv,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "conll": read_conll,
    "squad": read_squad,
}
_ENDINGS: dict[str, Format] = {
    ".tsv": "tsv",
    ".txt": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".conll": "conll",
    ".bio": "conll",
    ".json": "squad",
}
_TO_TYPED: dict[RowKind, Callable[..., Any]] = {
    "texts": to_text,
    "numbers": to_number,
    "words": to_words,
    "questions": to_question,
    "targets": to_target,
    "chats": to_chat,
}


@dataclass(frozen=True, slots=True)
class RowFile:
    """Typed rows of a file or folder, and how they were found."""

    rows: list[Any]  # of the kind that was asked for
    columns: Columns
    bad: list[BadRow]  # left out


def read_labelled(
    path: Path,
    kind: RowKind,
    *,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    on_error: OnError = "stop",
) -> RowFile:
    """Reads all rows of a file, or of the files in a folder, with their labels.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds none of a known format.
        ValueError: rows are bad and `on_error` is "stop", none is good, or which column is which
            cannot be told.
    """
    named = [*text_columns, *([] if label_column is None else [label_column])]
    rows, bad = keep_good(_rows_of_all(path, named), path, on_error=on_error)
    columns = find_columns(rows, kind, texts=text_columns, label=label_column)
    typed = [to_typed(row, columns, kind, needs_label=True) for row in rows]
    good, bad_types = keep_good(typed, path, on_error=on_error)
    return RowFile(good, columns, bad + bad_types)


def to_typed(row: Row, columns: Columns, kind: RowKind, *, needs_label: bool) -> TypedRow | BadRow:
    """The row as its kind."""
    missing = [column for column in columns.texts if column not in row.fields]
    if missing:
        known = ", ".join(row.fields)
        return BadRow(row.place, f"there is no column {missing[0]!a}, but {known}; mend the row")
    typed: TypedRow | BadRow = _TO_TYPED[kind](row, columns, needs_label=needs_label)
    return typed


def read_rows(
    path: Path, named: Sequence[str] = (), *, file_format: Format | None = None
) -> Iterator[Row | BadRow]:
    """Yields the rows of a file.

    Args:
        path: plain, or packed as .gz.
        named: columns that the caller will ask for, by which a header is known.
        file_format: by the ending of the name where None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the name has no known ending, or the file is damaged.
    """
    read = FORMATS[file_format or format_of(path)]
    with open_source(path) as file:
        yield from read(file, str(path), named)


def format_of(path: Path) -> Format:
    """The format that the name's ending stands for.

    Raises:
        ValueError: it stands for none.
    """
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    found = _ENDINGS.get(plain.suffix)
    if found is None:
        known = ", ".join(_ENDINGS)
        raise ValueError(
            f"{path} is of no known format; expected a name in {known}, plain or with .gz behind "
            "it; rename it"
        )
    return found


def _rows_of_all(path: Path, named: Sequence[str]) -> Iterator[Row | BadRow]:
    if not path.is_dir():
        yield from read_rows(path, named)
        return
    files = sorted(file for file in path.iterdir() if file.is_file() and _is_known(file))
    if not files:
        known = ", ".join(_ENDINGS)
        raise FileNotFoundError(f"{path} holds no file of rows; expected files named {known}")
    for file in files:
        yield from read_rows(file, named)


def _is_known(file: Path) -> bool:
    name = file.with_suffix("") if file.suffix == ".gz" else file
    return name.suffix in _ENDINGS
