"""Splits text by any regular expression, through the `regex` package: exact, but slow.

The package knows a newer Unicode than the engines of tiktoken and tokenizers. Characters that it
would put into another class are exchanged for others of their class before it sees them.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import chain, pairwise
from typing import Any, Literal, TypeAlias

from weldlm import _tokenizer
from weldlm.tokenizer.pattern_translation import Engine, translate

__all__ = ["Keeps", "RegexPattern"]

# what the regex package calls the classes of the core, by their number; 0 and 12 are all the rest
_PROPERTIES = {1: r"\p{Lu}", 2: r"\p{Ll}", 3: r"\p{Lt}", 4: r"\p{Lm}", 5: r"\p{Lo}", 6: r"\p{M}"}
_PROPERTIES |= {7: r"\p{Nd}", 8: r"[\p{Nl}\p{No}]", 9: r"\s", 10: r"\p{P}", 11: r"\p{S}"}
_UNASSIGNED = 12
_SURROGATES = (0xD800, 0xDFFF)


# "all": each match and what is between them; "runs": matches in a row are one piece; the last four
# join each match, or what is between two, to the piece before it or behind it
Keeps: TypeAlias = Literal[
    "matches",
    "others",
    "all",
    "runs",
    "matches to previous",
    "others to previous",
    "matches to next",
    "others to next",
]


@dataclass(frozen=True, slots=True)
class RegexPattern:
    """Splits text as an engine does with a pattern."""

    pattern: str
    engine: Engine  # whose dialect it is
    keeps: Keeps  # what becomes a piece

    def build(self) -> _tokenizer.CallbackPretokenizer:
        """
        Raises:
            ValueError: the pattern has a construct that the engines do not agree on, or matches
                no character at all.
        """
        return _tokenizer.CallbackPretokenizer(self._spans())

    def _spans(self) -> Callable[[str], list[int]]:
        regex = import_module("regex")
        translation = translate(self.pattern, self.engine)
        if translation.may_be_empty:
            raise ValueError(
                f"the pattern {self.pattern[:200]!r} matches no character at all in the text at "
                "some places, expected one whose matches are not empty"
            )
        try:
            compiled = regex.compile(translation.source, regex.VERSION0)
        except (regex.error, OverflowError) as error:
            raise ValueError(f"the pattern {self.pattern[:200]!r} is wrong: {error}") from error
        exchanges = _exchanges(translation.ranges)

        def spans(text: str) -> list[int]:
            known = text if text.isascii() else text.translate(exchanges)
            matches = [match.span() for match in compiled.finditer(known)]
            return _pieces(matches, len(text), self.keeps)

        return spans


def _pieces(matches: list[tuple[int, int]], size: int, keeps: Keeps) -> list[int]:
    """Begin and end of each piece, one behind the other."""
    if keeps == "matches":
        return list(chain.from_iterable(matches))
    borders = [0, *chain.from_iterable(matches), size]
    if keeps == "others":
        return borders
    if keeps != "all":
        borders = _joined(borders, keeps)
    return list(chain.from_iterable(pairwise(borders)))


def _joined(borders: list[int], keeps: Keeps) -> list[int]:
    """The borders of `_pieces` without those inside of joined pieces.

    As the tokenizers library has it: of joined parts in a row, only every first one is joined.
    """
    what, _, where = keeps.partition(" to ")
    parts = [
        (begin, end, (number % 2 == 1) == (what != "others"))
        for number, (begin, end) in enumerate(pairwise(borders))
        if begin < end
    ]
    if where == "next":
        parts.reverse()
    joined = {
        begin if where != "next" else end
        for (_, _, was_chosen), (begin, end, is_chosen) in pairwise(parts)
        if (is_chosen == was_chosen if what == "runs" else is_chosen and not was_chosen)
    }
    return [0, *(border for border in borders[1:-1] if border not in joined), borders[-1]]


def _exchanges(ranges: Iterable[tuple[int, int]]) -> dict[int, int | None]:
    """For characters that the regex package classifies otherwise, another one of their class.

    `ranges` are the code points that the pattern names: none of them can be exchanged.
    """
    named = sorted(set(ranges))

    def is_named(code: int) -> bool:
        return any(first <= code <= last for first, last in named)

    different = _differences()
    codes = sorted(different)
    for first, last in named:
        at = bisect_left(codes, first)
        if at < len(codes) and codes[at] <= last:
            raise ValueError(
                f"the pattern names the character U+{codes[at]:04X}, which Unicode 16 and the "
                "regex package put into different classes"
            )
    stand_ins = {
        kind: next((code for code in codes if not is_named(code)), None)
        for kind, codes in _samples().items()
    }
    if None in stand_ins.values():
        raise ValueError("the pattern names every character of a class")
    return {code: stand_ins[kind] for code, kind in different.items()}


@cache
def _classes() -> tuple[bytes, bytes]:
    """The class of each code point in the core, and in the regex package; 0 for all the rest."""
    ours = _tokenizer.char_classes().translate(bytes.maketrans(bytes([_UNASSIGNED]), b"\0"))
    theirs = bytearray(len(ours))
    first, last = _SURROGATES
    codes: Any = [*range(first), *range(last + 1, len(ours))]
    text = "".join(map(chr, codes))
    for kind, source in _PROPERTIES.items():
        for match in import_module("regex").finditer(f"{source}+", text):
            begin, end = codes[match.start()], codes[match.end() - 1] + 1
            theirs[begin:end] = bytes([kind]) * (end - begin)
    return ours, bytes(theirs)


@cache
def _differences() -> dict[int, int]:
    """Our class of the code points that the regex package puts into another one."""
    ours, theirs = _classes()
    return {
        code: kind
        for code, (kind, other) in enumerate(zip(ours, theirs, strict=True))
        if kind != other
    }


@cache
def _samples() -> dict[int, list[int]]:
    """Code points of each class on which both agree, the last ones of it first."""
    ours, theirs = _classes()
    samples: dict[int, list[int]] = {kind: [] for kind in [0, *_PROPERTIES]}
    for code in range(len(ours) - 1, -1, -1):
        kind = ours[code]
        if kind == theirs[code] and len(samples[kind]) < 100 and code not in range(*_SURROGATES):
            samples[kind].append(code)
    return samples
