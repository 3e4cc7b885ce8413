"""Text and JSON from outside: UTF-8 with or without a byte order mark, and whole characters."""

import json
from typing import Any

__all__ = ["decode_text", "parse_json", "require_whole_characters"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def decode_text(data: bytes, place: str, *, is_start: bool = True) -> str:
    """Decodes UTF-8, less the byte order mark that a file may start with.

    Raises:
        ValueError: names the first byte that is none.
    """
    text = data.removeprefix(_BYTE_ORDER_MARK) if is_start else data
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        number = error.start + len(data) - len(text)
        raise ValueError(
            f"{place} is not UTF-8 (byte {number} cannot be decoded); convert or leave it out"
        ) from error


def parse_json(text: str, place: str, *, expected: str) -> Any:
    """Parses what came from outside.

    Raises:
        ValueError: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise _refusal(place, "is JSON nested too deep", expected) from error
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON ({error.msg}, column {error.colno})"
        raise _refusal(place, problem, expected) from error
    except ValueError as error:  # Python converts no integer of thousands of digits
        raise _refusal(place, "is JSON with a number of too many digits", expected) from error


def require_whole_characters(text: str, place: str) -> None:
    """Refuses lone surrogates, which JSON can spell and UTF-8 cannot.

    Raises:
        ValueError: names the first one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise ValueError(
            f"{place} holds half a character, the lone surrogate {half!a}; expected pairs of "
            "surrogates; mend or leave it out"
        ) from error


def _refusal(place: str, problem: str, expected: str) -> ValueError:
    return ValueError(f"{place} {problem}; expected {expected}; mend or leave it out")
