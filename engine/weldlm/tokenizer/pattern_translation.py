"""Translates regular expressions of other engines for the `regex` package, without a change of
meaning.

tiktoken runs them with fancy-regex, tokenizers with oniguruma. What all three engines do alike is
translated; what may differ is refused by name: word characters and boundaries, POSIX classes,
operations on sets, back references, named groups, flags other than (?i:...) around ASCII text,
properties other than general categories, repetitions that one engine takes for possessive and
another does not, anchors of lines.
"""

from dataclasses import dataclass, field
from typing import Literal, NoReturn, TypeAlias

__all__ = ["Engine", "Translation", "translate"]

Engine: TypeAlias = Literal["tiktoken", "tokenizers"]

_CATEGORIES = frozenset(["L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "Nd", "P", "S"])
_CONTROLS = {"r": 0x0D, "n": 0x0A, "t": 0x09, "f": 0x0C, "v": 0x0B}
_GROUPS = ("(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>")
_LOOKAROUNDS = ("(?=", "(?!", "(?<=", "(?<!")
_ENDS = {"\\A": "\\A", "\\z": "\\Z"}  # of the text
_SET_OPERATORS = ("&&", "--", "~~", "||")
_ESCAPED = frozenset('!"#$%&()*+,-./:;=?@[\\]^_{|}~ ')  # not <, >, ' and `
# letters that one character folds to, such as U+FB01 to "fi"; oniguruma unfolds them
_JOINED_FOLDS = ("ss", "st", "ff", "fi", "fl")
_MOST_DEPTH = 50  # of groups within each other
_MORE_CASES = {"k": "\\u212a", "s": "\\u017f"}


@dataclass(slots=True)
class Translation:
    """What the `regex` package is given, and the code points that the pattern names itself."""

    source: str = ""
    ranges: list[tuple[int, int]] = field(default_factory=list)  # first and last
    may_be_empty: bool = False  # a match may have no characters


def translate(pattern: str, engine: Engine) -> Translation:
    """Translates a pattern.

    Raises:
        ValueError: names the construct that is not understood, and where it stands.
    """
    parser = _Parser(pattern, engine)
    source = parser.alternatives()
    if parser.position < len(pattern):
        parser.refuse("a closing parenthesis without an opening one")
    return Translation(source, parser.ranges, parser.may_be_empty)


class _Parser:
    def __init__(self, pattern: str, engine: Engine) -> None:
        self.pattern = pattern
        self.engine = engine
        self.position = 0
        self.ranges: list[tuple[int, int]] = []
        self.ignores_case = False
        self.depth = 0
        self.may_be_empty = False  # what was read last: an atom, a branch, alternatives

    def refuse(self, what: str) -> NoReturn:
        raise ValueError(
            f"the pattern has {what} at character {self.position}, which is not supported: "
            f"{self.pattern[self.position : self.position + 20]!r}"
        )

    def alternatives(self) -> str:
        branches = [self._branch()]
        may_be_empty = self.may_be_empty
        while self._take("|"):
            branches.append(self._branch())
            may_be_empty = may_be_empty or self.may_be_empty
        self.may_be_empty = may_be_empty
        return "|".join(branches)

    def _branch(self) -> str:
        parts: list[str] = []
        may_be_empty = True
        while self.position < len(self.pattern) and not self._sees("|", ")"):
            begin = self.position
            is_assertion = self._sees(*_LOOKAROUNDS, "^", "$", *_ENDS)
            self.may_be_empty = False
            atom = self._atom()
            if is_assertion and self._sees("*", "+", "?", "{"):
                self.refuse("a repeated assertion")
            quantifier = self._quantifier()
            may_be_left_out = quantifier.startswith(("*", "?")) or _is_from_zero(quantifier)
            if not (is_assertion or may_be_left_out or self.may_be_empty):
                may_be_empty = False
            parts.append(atom + quantifier)
            if self.ignores_case and self.engine == "tokenizers":
                self._refuse_joined_folds(begin)
        self.may_be_empty = may_be_empty
        return "".join(parts)

    def _refuse_joined_folds(self, begin: int) -> None:
        if self.pattern[begin : begin + 2].lower() in _JOINED_FOLDS:
            self.position = begin
            self.refuse("letters that one character folds to")

    def _atom(self) -> str:
        if self._sees("("):
            return self._group()
        if self._sees("["):
            return self._set()
        for end, translated in _ENDS.items():
            if self._take(end):
                return translated
        if self._sees("\\"):
            return self._escape()
        if self._take("."):
            return "[^\\n]"
        if self._sees("^", "$"):
            return self._anchor()
        if self._sees("*", "+", "?", "{", "}", "]"):
            self.refuse("an operator where a character was expected")
        return self._literal(ord(self._next()))

    def _anchor(self) -> str:
        if self.engine == "tokenizers":
            self.refuse("an anchor of lines")
        return "\\A" if self._next() == "^" else "\\Z"

    def _literal(self, code: int) -> str:
        self.ranges.append((code, code))
        character = chr(code)
        if not (self.ignores_case and character.isalpha()):
            return _point(code)
        if not character.isascii():
            self.refuse("a letter beyond ASCII whose case is ignored")
        small = character.lower()
        return f"[{small}{small.upper()}{_MORE_CASES.get(small, '')}]"

    def _group(self) -> str:
        if self.depth == _MOST_DEPTH:
            self.refuse(f"a group within {_MOST_DEPTH} others")
        self.depth += 1
        before = self.ignores_case
        if self._take("(?i:"):
            self.ignores_case, opening = True, "(?:"
        else:
            opening = next((group for group in _GROUPS if self._take(group)), "")
        if not opening:
            if self._sees("(?", "(*"):
                self.refuse("a group of another kind")
            self._next()
            opening = "(?:"
        inside = self.alternatives()
        if not self._take(")"):
            self.refuse("an opening parenthesis without a closing one")
        self.ignores_case = before
        self.depth -= 1
        return f"{opening}{inside})"

    def _quantifier(self) -> str:
        begin = self.position
        if self._take("{"):
            return self._counted(begin)
        if not self._sees("*", "+", "?"):
            return ""
        quantifier = self._next()
        if self._sees("+", "?"):
            quantifier += self._next()
        self._refuse_more_quantifiers()
        return quantifier

    def _counted(self, begin: int) -> str:
        end = self.pattern.find("}", self.position)
        least, comma, most = self.pattern[self.position : max(end, self.position)].partition(",")
        if not (least.isdecimal() and least.isascii() and (not most or most.isdecimal())):
            self.position = begin
            self.refuse("a brace that is no repetition")
        self.position = end + 1
        quantifier = self.pattern[begin : self.position]
        if (self._sees("+") and self.engine == "tiktoken") or (self._sees("?") and comma):
            quantifier += self._next()
        self._refuse_more_quantifiers()
        return quantifier

    def _refuse_more_quantifiers(self) -> None:
        if self._sees("*", "+", "?", "{"):
            self.refuse("a repetition of a repetition")

    def _escape(self) -> str:
        """An escape outside a set."""
        if self._sees("\\s", "\\S", "\\d", "\\D", "\\p", "\\P"):
            return self._class()
        return self._literal(self._escaped_code())

    def _class(self) -> str:
        """A class of characters, which stands in a set as well as outside."""
        if self._sees("\\s", "\\S"):
            return self._next() + self._next()
        if self._sees("\\d", "\\D"):
            self._next()
            return "\\p{Nd}" if self._next() == "d" else "\\P{Nd}"
        begin = self.position
        self._next()
        letter = self._next()
        if not self._take("{"):
            self.position = begin
            self.refuse("a property without braces")
        end = self.pattern.find("}", self.position)
        name = self.pattern[self.position : max(end, self.position)]
        if name not in _CATEGORIES:
            self.position = begin
            self.refuse(f"the property {name!r}, expected one of {sorted(_CATEGORIES)}")
        self.position = end + 1
        return f"\\{letter}{{{name}}}"

    def _escaped_code(self) -> int:
        begin = self.position
        self._next()
        character = self._next() if self.position < len(self.pattern) else ""
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character and character in _ESCAPED:
            return ord(character)
        digits = self._hex_digits(character)
        if not digits or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            self.position = begin
            self.refuse(f"the escape \\{character}")
        return int(digits, 16)

    def _hex_digits(self, character: str) -> str:
        if character not in ("x", "u"):
            return ""
        if self._take("{"):
            end = self.pattern.find("}", self.position)
            digits = self.pattern[self.position : max(end, self.position)]
            self.position = end + 1
            return digits if 1 <= len(digits) <= 6 else ""
        size = 2 if character == "x" else 4
        digits = self.pattern[self.position : self.position + size]
        self.position += size
        return digits if len(digits) == size else ""

    def _set(self) -> str:
        if self.ignores_case:
            self.refuse("a set whose case is ignored")
        self._next()
        opening = "[^" if self._take("^") else "["
        parts: list[str] = []
        while not self._sees("]") or not parts:
            if self.position >= len(self.pattern):
                self.refuse("a set without an end")
            if self._sees("[", "]", *_SET_OPERATORS):
                self.refuse("a set within a set or an operation on sets")
            parts.append(self._set_part())
        self._next()
        return f"{opening}{''.join(parts)}]"

    def _set_part(self) -> str:
        if self._sees("\\s", "\\S", "\\d", "\\D", "\\p", "\\P"):
            part = self._class()
            if self._sees("-") and not self._sees("-]"):
                self.refuse("a range from a class")
            return part
        first = self._set_code()
        if self._sees(*_SET_OPERATORS):
            self.refuse("an operation on sets")
        if not self._sees("-") or self._sees("-]"):
            self.ranges.append((first, first))
            return _point(first)
        self._next()
        if self._sees("[", "\\s", "\\S", "\\d", "\\D", "\\p", "\\P"):
            self.refuse("a range to a class")
        last = self._set_code()
        if last < first:
            self.refuse("a range whose end comes before its begin")
        self.ranges.append((first, last))
        return f"{_point(first)}-{_point(last)}"

    def _set_code(self) -> int:
        return self._escaped_code() if self._sees("\\") else ord(self._next())

    def _sees(self, *strings: str) -> bool:
        return self.pattern.startswith(strings, self.position)

    def _take(self, string: str) -> bool:
        if not self._sees(string):
            return False
        self.position += len(string)
        return True

    def _next(self) -> str:
        if self.position >= len(self.pattern):
            self.refuse("no end")
        self.position += 1
        return self.pattern[self.position - 1]


def _is_from_zero(quantifier: str) -> bool:
    """Whether it is a repetition such as {0,3}."""
    least = quantifier[1:].partition(",")[0].partition("}")[0]
    return quantifier.startswith("{") and not least.strip("0")


def _point(code: int) -> str:
    character = chr(code)
    return character if character.isascii() and character.isalnum() else f"\\U{code:08x}"
