"""Rows of labelled data from files of several formats, with the place of each.

A row is a mapping from the names of columns to what stands in them. What is wrong with a row is
kept beside its place, so that the caller can name all of them, or leave them out where asked to.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, get_args

__all__ = ["BadRow", "OnError", "Reader", "Row", "keep_good"]

OnError = Literal["stop", "skip"]  # what becomes of bad rows

_NAMED = 3  # bad rows in a message

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in the columns of a row."""

    place: str  # file:line
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used."""

    place: str
    error: str  # what is wrong, what is expected, what to do

    def __str__(self) -> str:
        return f"{self.place}: {self.error}"


Reader = Callable[[BinaryIO, str, Sequence[str]], Iterator[Row | BadRow]]


def keep_good(
    rows: Iterable[T | BadRow], path: Path | str, *, on_error: OnError = "stop"
) -> tuple[list[T], list[BadRow]]:
    """Returns the good rows and the bad ones, which are allowed under "skip" only.

    Raises:
        ValueError: a row is bad, or none is good.
    """
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error is {on_error!r}; expected stop or skip")
    good: list[T] = []
    bad: list[BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            good.append(row)
    if bad and on_error == "stop":
        raise ValueError(_refusal(bad))
    if not good:
        what = f"holds {len(bad)} bad rows and no good one ({bad[0]})" if bad else "is empty"
        raise ValueError(f"{path} {what}; expected at least one row; give another file")
    return good, bad


def _refusal(bad: list[BadRow]) -> str:
    if len(bad) == 1:
        return f"{bad[0]} (on_error skip leaves it out)"
    others = ", ".join(row.place for row in bad[1 : 1 + _NAMED])
    more = ", ..." if len(bad) > 1 + _NAMED else ""
    return f"{bad[0]} ({len(bad)} bad rows: also {others}{more}; on_error skip leaves them out)"
