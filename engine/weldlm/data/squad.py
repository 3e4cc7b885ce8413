"""SQuAD files: one JSON value with articles of paragraphs, their questions and the answers."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from weldlm.data.rows import BadRow, Row
from weldlm.data.source_lines import read_whole
from weldlm.text_file import parse_json

__all__ = ["read_squad"]

_EXPECTED = '{"data": [{"paragraphs": [{"context": "...", "qas": [...]}]}]}'


def read_squad(file: BinaryIO, name: str, named: Sequence[str] = ()) -> Iterator[Row | BadRow]:  # noqa: ARG001 (the format names its fields)
    """Yields a row a question: its fields, and the context of its paragraph.

    The place of a row is its path in the file, which may be one line.

    Raises:
        ValueError: it is no such file.
    """
    whole = parse_json(read_whole(file, name), name, expected=_EXPECTED)
    articles = whole.get("data") if isinstance(whole, dict) else None
    if not isinstance(articles, list):
        raise ValueError(f'{name} holds no list under "data"; expected {_EXPECTED}; mend it')
    for path, paragraph in _parts(articles, name, "data", "paragraphs"):
        if isinstance(paragraph, BadRow):
            yield paragraph
            continue
        for place, question in _items(paragraph, f"{name}:{path}", "qas"):
            if isinstance(question, BadRow):
                yield question
            else:
                yield Row(place, {**question, "context": paragraph.get("context")})


def _parts(
    articles: list[Any], name: str, outer: str, inner: str
) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    for number, article in enumerate(articles):
        path = f"{outer}[{number}]"
        for place, part in _items(article, f"{name}:{path}", inner):
            yield place.removeprefix(f"{name}:"), part


def _items(holder: Any, place: str, key: str) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    """The objects in a list of `holder`, each with its place."""
    items = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(items, list):
        yield place, BadRow(place, f'there is no list under "{key}"; expected {_EXPECTED}')
        return
    for number, item in enumerate(items):
        path = f"{place}.{key}[{number}]"
        if isinstance(item, dict):
            yield path, item
        else:
            yield path, BadRow(path, f"it is {str(item)[:40]!a}; expected an object; mend it")
