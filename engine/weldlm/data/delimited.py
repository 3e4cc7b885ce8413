"""Tables as text: TSV, a row a line without quotes, and CSV, with quotes that may span lines."""

import csv
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from weldlm.data.column_names import is_header
from weldlm.data.rows import BadRow, Row
from weldlm.data.source_lines import MOST_LINE_BYTES, SourceLine, read_lines

__all__ = ["read_csv", "read_tsv"]

Cells = tuple[int, list[str] | str]  # number of the first line, and its cells or what is wrong


def read_tsv(file: BinaryIO, name: str, named: Sequence[str] = ()) -> Iterator[Row | BadRow]:
    """Yields the rows of a table with tabs between cells; quotes in it are plain text.

    Columns are called by the header where the first line is one (`is_header`), else 1, 2, ...

    Args:
        file: the table.
        name: of the file, in messages.
        named: columns that the caller will ask for.
    """
    cells = (
        (line.number, line.error if line.error is not None else line.text.split("\t"))
        for line in read_lines(file, name)
        if line.error is not None or line.text.strip()
    )
    yield from _table(cells, name, named)


def read_csv(file: BinaryIO, name: str, named: Sequence[str] = ()) -> Iterator[Row | BadRow]:
    """Yields the rows of a table with commas between cells; see `read_tsv`."""
    yield from _table(_csv_cells(file, name), name, named)


def _table(cells: Iterator[Cells], name: str, named: Sequence[str]) -> Iterator[Row | BadRow]:
    columns: list[str] | None = None
    for line, row in cells:
        place = f"{name}:{line}"
        if isinstance(row, str):
            yield BadRow(place, row)
        elif columns is None and is_header(row, named):
            columns = [cell.strip() for cell in row]
            if len(set(columns)) < len(columns):
                raise ValueError(f"{place} names a column twice ({', '.join(columns)}); rename it")
        else:
            columns = columns or [str(number) for number in range(1, len(row) + 1)]
            if len(row) != len(columns):
                expected = f"expected {len(columns)}, as in the first row"
                yield BadRow(place, f"the row has {len(row)} columns; {expected}; mend it")
            else:
                yield Row(place, dict(zip(columns, row, strict=True)))


def _csv_cells(file: BinaryIO, name: str) -> Iterator[Cells]:
    lines = _Lines(read_lines(file, name))
    reader = csv.reader(lines, strict=True)
    while True:
        first = lines.number + 1
        lines.error = None
        previous_limit = csv.field_size_limit(MOST_LINE_BYTES)  # is that of the whole process
        try:
            row = next(reader, None)
        except csv.Error as error:
            problem = f"the row is no CSV ({error}); expected quotes in pairs; mend it"
            yield first, lines.error or problem
            continue
        finally:
            csv.field_size_limit(previous_limit)
        if row is None:
            return
        if lines.error is not None:
            yield first, lines.error
        elif row:
            yield first, row


class _Lines:
    """Lines as the csv module takes them; what is wrong with one is put aside."""

    def __init__(self, lines: Iterator[SourceLine]) -> None:
        self.number = 0
        self.error: str | None = None
        self._lines = lines

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number = line.number
        self.error = self.error or line.error
        return line.text + "\n"
