"""What callers pass: refused in one line where the C++ core would say it in many, or not at all."""

from collections.abc import Iterable
from operator import index
from typing import Any

__all__ = [
    "require_count",
    "require_integer",
    "require_iterable",
    "require_text",
    "segment_rows",
    "shown_integer",
]

_MOST_DIGITS = 30
_MOST_COUNT = 1 << 31  # ids have 32 bits


def require_text(text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text is a {_kind(text)}, expected str: decode bytes first")


def require_iterable(name: str, values: object, expected: str) -> None:
    try:
        iter(values)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"{name} is a {_kind(values)}, expected {expected}") from None


def require_integer(name: str, value: object) -> int:
    """Returns a whole number, of numpy too.

    Raises:
        TypeError: it is none.
    """
    try:
        return int(index(value))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected a whole number") from None


def require_count(name: str, value: object) -> int:
    """Returns a whole number that fits a count of the core, whose own range it checks itself.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is too large or too small for any count.
    """
    count = require_integer(name, value)
    if abs(count) > _MOST_COUNT:
        raise ValueError(f"{name}={shown_integer(count)}, expected at most {_MOST_COUNT:,}")
    return count


def shown_integer(number: int) -> str:
    """A number in a message: Python does not spell out thousands of digits."""
    if abs(number) < 10**_MOST_DIGITS:
        return str(number)
    return f"about {'-' if number < 0 else ''}2**{number.bit_length() - 1}"


def segment_rows(segments: Iterable[tuple[str, bool]]) -> tuple[list[str], list[bool]]:
    """The texts of segments, and whether each is trusted.

    Raises:
        TypeError: one is no pair of a text and a bool.
    """
    require_iterable("segments", segments, "pairs (text, is_trusted)")
    texts: list[str] = []
    are_trusted: list[bool] = []
    for number, segment in enumerate(segments):
        if not _is_segment(segment):
            raise TypeError(
                f"segment {number} is {str(segment)[:40]!r} ({_kind(segment)}), expected a pair "
                "(text, is_trusted) of a str and a bool"
            )
        texts.append(segment[0])
        are_trusted.append(segment[1])
    return texts, are_trusted


def _is_segment(segment: Any) -> bool:
    is_pair = isinstance(segment, tuple | list) and len(segment) == 2
    return is_pair and isinstance(segment[0], str) and isinstance(segment[1], bool)


def _kind(value: object) -> str:
    return type(value).__name__
