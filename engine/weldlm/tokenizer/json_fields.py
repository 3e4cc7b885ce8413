"""Reading JSON strictly: what is unknown or not understood is refused by name."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

__all__ = [
    "ANY",
    "Understood",
    "brief",
    "checked",
    "parse_json",
    "read_float",
    "steps_of",
    "written_float",
]

ANY = object()  # any value is understood

_MAX_U64 = 2**64 - 1
_MAX_POWER = 308  # of ten, in a double
_MOST_DEPTH = 60  # of Sequences in Sequences; the tokenizers library takes 63
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# a string, which may hold digits, or a number that is too long for any
_LONG_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|([0-9]{1000,})', re.DOTALL)

# the values that are understood for each field; a field whose values hold None may be missing
Understood: TypeAlias = Mapping[str, tuple[object, ...]]


def parse_json(data: bytes) -> object:
    """Parses UTF-8 JSON in which no object has a key twice; a byte order mark is no part of it.

    Raises:
        ValueError: names the place.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_float=read_float)
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start}") from error
    except _RepeatedKeyError as error:
        raise ValueError(str(error)) from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"invalid JSON at line {error.lineno}, column {error.colno}: {error.msg}; get the file "
            "again, it may be cut off"
        ) from error
    except RecursionError as error:
        raise ValueError("JSON nested too deeply to be a tokenizer.json") from error
    except ValueError as error:  # of a number that Python does not read
        raise ValueError(_wrong_number(data, error)) from None


def read_float(text: str) -> float:
    """The number as the tokenizers library reads it, which may be off by a unit in the last place.

    Its JSON reader takes the digits as an integer of 64 bits and divides it by a power of ten; the
    scores of Unigram pieces decide ties, so the same rounding is needed here.
    """
    mantissa, _, exponent_text = text.lower().lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    exponent = int(exponent_text or "0")
    significand = int(whole)
    if significand > _MAX_U64 or abs(exponent) > _MAX_POWER:
        return float(text)
    for digit in fraction:
        longer = significand * 10 + int(digit)
        if longer > _MAX_U64:
            break
        significand = longer
        exponent -= 1
    value = float(significand)
    if exponent < -_MAX_POWER:
        value, exponent = value / 1e308, exponent + _MAX_POWER
    value = value * float(f"1e{exponent}") if exponent >= 0 else value / float(f"1e{-exponent}")
    return -value if text.startswith("-") else value


def written_float(value: float) -> float:
    """The number to write so that `read_float` reads `value`.

    There is one for each number that was read from a file; for others it may be off by some units
    in the last place.
    """
    below = above = value
    for _ in range(4):
        for written in (below, above):
            if read_float(repr(written)) == value:
                return written
        below, above = math.nextafter(below, -math.inf), math.nextafter(above, math.inf)
    return value


def steps_of(name: str, section: object, field: str) -> Iterator[object]:
    """The sections in a Sequence and in the Sequences within it, in order; else the section itself.

    Args:
        field: of a Sequence, which holds the list.

    Raises:
        ValueError: a Sequence is damaged, or there are too many within each other.
    """
    understood: Understood = {"type": ("Sequence",), field: (ANY,)}
    left: list[tuple[object, int]] = [(section, 0)]
    while left:
        step, depth = left.pop()
        if not isinstance(step, dict) or step.get("type") != "Sequence":
            yield step
            continue
        rows = checked(name, step, understood)[field]
        if not isinstance(rows, list):
            raise ValueError(f"{name} has {field!r} = {brief(rows)}, expected a list")
        if depth == _MOST_DEPTH:
            raise ValueError(
                f"{name} has a Sequence within {depth} others, expected at most {_MOST_DEPTH} "
                f"within each other; write all {field} in one"
            )
        left.extend((row, depth + 1) for row in reversed(rows))


def checked(name: str, value: object, understood: Understood) -> dict[str, Any]:
    """Returns the fields of the section `name`, with None for those that are missing.

    Raises:
        ValueError: a field is unknown, is missing, or has a value that is not understood.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {brief(value)}, expected an object")
    for field in sorted(understood.keys() - value.keys()):
        if None not in understood[field]:
            raise ValueError(f"{name} has no {field!r}")
    for field, given in value.items():
        if field not in understood:
            raise ValueError(f"{name} has the unknown field {field!r} = {brief(given)}")
        if not any(_is(given, known) for known in understood[field]):
            raise ValueError(
                f"{name} has {field!r} = {brief(given)}, which is not supported; expected "
                + " or ".join(json.dumps(known) for known in understood[field])
            )
    return dict.fromkeys(understood) | value


def brief(value: object) -> str:
    """A short spelling of a value for messages."""
    try:
        if isinstance(value, dict) and "type" in value:
            kind = str(value["type"])
            return f"an object of type {kind[:60]!r}"
        text = json.dumps(value)
    except RecursionError:
        return "a value of many levels"
    return text if len(text) <= 60 else text[:60] + "..."


def _is(given: object, known: object) -> bool:
    # bool is an int: 0 is no false, and 0.0 is a dropout of 0
    return known is ANY or (given == known and isinstance(given, bool) == isinstance(known, bool))


class _RepeatedKeyError(ValueError):
    """An object has a key twice."""


def _wrong_number(data: bytes, error: ValueError) -> str:
    for match in _LONG_NUMBER.finditer(data):
        if match.group(1) is not None:
            before = data[: match.start()]
            line, column = before.count(b"\n") + 1, match.start() - before.rfind(b"\n")
            return (
                f"a number of {len(match.group(1)):,} digits at line {line}, column {column}; "
                "expected numbers of a tokenizer; get the file again, it may be damaged"
            )
    return f"a number is wrong: {error}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _RepeatedKeyError(f"the key {twice!r} is given twice in one object")
    return fields
