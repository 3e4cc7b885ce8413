"""CoNLL files: a word a line with its tag in the last column, an empty line behind a sentence."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from weldlm.data.rows import BadRow, Row
from weldlm.data.source_lines import read_lines

__all__ = ["read_conll"]

_DOCUMENT_START = "-DOCSTART-"


def read_conll(file: BinaryIO, name: str, named: Sequence[str] = ()) -> Iterator[Row | BadRow]:  # noqa: ARG001 (columns have their places)
    """Yields sentences as {"words": [...], "tags": [...]}, without tags where there is one column.

    Tabs separate the columns of a file whose lines have some, else white space does. A bad line
    spoils its sentence.
    """
    sentence = _Sentence(name)
    for line in read_lines(file, name):
        if line.error is None and not line.text.strip():
            yield from sentence.end()
        else:
            sentence.add(line.number, line.text, line.error)
    yield from sentence.end()


class _Sentence:
    """The lines since the last empty one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._num_columns: int | None = None  # of the file, by its first line
        self._first = 0
        self._cells: list[list[str]] = []
        self._error: BadRow | None = None

    def add(self, number: int, text: str, error: str | None) -> None:
        self._first = self._first or number
        cells = text.split("\t") if "\t" in text else text.split()
        cells = [cell.strip() for cell in cells]
        if error is None:
            error = self._problem(cells)
        if error is not None and self._error is None:
            self._error = BadRow(f"{self._name}:{number}", error)
        self._cells.append(cells)

    def end(self) -> Iterator[Row | BadRow]:
        first, cells, error = self._first, self._cells, self._error
        self._first, self._cells, self._error = 0, [], None
        if error is not None:
            yield error
        elif cells and cells[0][0] != _DOCUMENT_START:
            fields = {"words": [row[0] for row in cells]}
            if self._num_columns != 1:
                fields["tags"] = [row[-1] for row in cells]
            yield Row(f"{self._name}:{first}", fields)

    def _problem(self, cells: list[str]) -> str | None:
        self._num_columns = self._num_columns or len(cells)
        if len(cells) != self._num_columns:
            expected = f"expected {self._num_columns}, as in the first line"
            return f"the line has {len(cells)} columns; {expected}; mend it"
        if not cells[0] or not cells[-1]:
            return "the line lacks its word or its tag; expected both; mend it"
        return None
