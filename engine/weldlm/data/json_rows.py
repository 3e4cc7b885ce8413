"""JSON lines: an object a line, whose keys are the columns."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from weldlm.data.rows import BadRow, Row
from weldlm.data.source_lines import read_lines
from weldlm.text_file import parse_json

__all__ = ["read_jsonl"]

_EXPECTED = "a JSON object"


def read_jsonl(file: BinaryIO, name: str, named: Sequence[str] = ()) -> Iterator[Row | BadRow]:  # noqa: ARG001 (columns have their names)
    """Yields the objects; empty lines are none."""
    for line in read_lines(file, name):
        place = f"{name}:{line.number}"
        if line.error is not None:
            yield BadRow(place, line.error)
        elif line.text.strip():
            try:
                fields = parse_json(line.text, "the line", expected=_EXPECTED)
            except ValueError as error:
                yield BadRow(place, str(error))
                continue
            if isinstance(fields, dict):
                yield Row(place, fields)
            else:
                yield BadRow(
                    place, f"the line is {line.text[:40]!a}; expected {_EXPECTED}; mend it"
                )
