"""tokenizer.json: the pretokenizers of byte-level BPE, ByteLevel, Split, Digits and Sequences."""

from collections.abc import Mapping
from typing import Any

from weldlm.tokenizer.bpe import Pattern, PatternSequence
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.parts import Normalizer, Pretokenizer
from weldlm.tokenizer.pattern_families import PATTERNS, family_of
from weldlm.tokenizer.regex_pattern import Keeps, RegexPattern
from weldlm.tokenizer.rewriters import Metaspace, WhitespaceSplit

__all__ = ["read_byte_level", "write_byte_level"]

_BYTE_LEVEL: Understood = {
    "type": ("ByteLevel",),
    "add_prefix_space": (True, False),
    "trim_offsets": (True, False),
    "use_regex": (True, False, None),
}
_SPLIT: Understood = {
    "type": ("Split",),
    "pattern": (ANY,),
    "behavior": ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"),
    "invert": (True, False),
}
_DIGITS: Understood = {"type": ("Digits",), "individual_digits": (True, False)}
_DELIMITER: Understood = {"type": ("CharDelimiterSplit",), "delimiter": (ANY,)}
_WHITESPACE: Understood = {"type": ("WhitespaceSplit",)}
_SEQUENCE: Understood = {"type": ("Sequence",), "pretokenizers": (ANY,)}

# what each behavior of Split makes of matches, and of what is between them where it is inverted
_BEHAVIORS: Mapping[str, tuple[Keeps, Keeps]] = {
    "Isolated": ("all", "all"),
    "Removed": ("others", "matches"),
    "Contiguous": ("runs", "runs"),
    "MergedWithPrevious": ("matches to previous", "others to previous"),
    "MergedWithNext": ("matches to next", "others to next"),
}
# what `add_prefix_space` asks for: a space in front of text that does not begin with one
_PREFIX_SPACE = Metaspace(" ", "always")
_SMOLLM = (Pattern("single_digits"), Pattern("gpt2"))
_OPERATORS = frozenset(".^$*+?()[]{}|\\-&~#")


def read_byte_level(
    section: dict[str, Any],
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    """Reads ByteLevel, or a Sequence of other steps that ends with it.

    Raises:
        ValueError: the section asks for what this package does not do.
    """
    if section.get("type") != "Sequence":
        has_prefix, last = _read_last(section)
        return (_PREFIX_SPACE,) if has_prefix else (), _joined(last)
    steps = checked("pre_tokenizer", section, _SEQUENCE)["pretokenizers"]
    if not isinstance(steps, list) or not steps:
        raise ValueError(f"pretokenizers is {brief(steps)}, expected a list that is not empty")
    parts: tuple[Pretokenizer, ...] = ()
    for step in steps[:-1]:
        parts += (_read_step(step),)
    has_prefix, last = _read_last(steps[-1])
    if has_prefix and parts:
        raise ValueError(
            "pre_tokenizer has 'add_prefix_space' = true behind other steps of a Sequence, which "
            "is not supported; expected false"
        )
    return (_PREFIX_SPACE,) if has_prefix else (), _joined(parts + last)


def write_byte_level(
    pretokenizer: Pretokenizer | None, rewriters: tuple[Normalizer, ...] = ()
) -> dict[str, Any]:
    """The pretokenizer section.

    Raises:
        ValueError: the tokenizers library has no way to say it.
    """
    if rewriters not in ((), (_PREFIX_SPACE,)) or (
        rewriters and pretokenizer not in (Pattern("gpt2"), None)
    ):
        raise ValueError(f"tokenizer.json cannot say {rewriters} and then {pretokenizer}")
    if pretokenizer == Pattern("gpt2") or pretokenizer is None:
        uses_regex = pretokenizer is not None
        return _byte_level(uses_regex=uses_regex) | {"add_prefix_space": bool(rewriters)}
    last = _byte_level(uses_regex=False)
    if pretokenizer == Pattern("smollm"):
        return _sequence([_write_step(_SMOLLM[0]), _byte_level(uses_regex=True)])
    if isinstance(pretokenizer, PatternSequence):
        return _sequence([*map(_write_step, pretokenizer.steps), last])
    return _sequence([_write_step(pretokenizer), last])


def _joined(parts: tuple[Pretokenizer, ...]) -> Pretokenizer | None:
    if not parts:
        return None
    if parts == _SMOLLM:
        return Pattern("smollm")
    return parts[0] if len(parts) == 1 else PatternSequence(parts)


def _read_last(section: object) -> tuple[bool, tuple[Pretokenizer, ...]]:
    """ByteLevel: whether it adds a space, and how it splits.

    It spells bytes in characters, so nothing can be split behind it.
    """
    if not isinstance(section, dict) or section.get("type") != "ByteLevel":
        raise ValueError(
            f"pre_tokenizer has {brief(section)} at the end; expected one of type 'ByteLevel'"
        )
    fields = checked("pre_tokenizer", section, _BYTE_LEVEL)
    return fields["add_prefix_space"], () if fields["use_regex"] is False else (Pattern("gpt2"),)


def _read_step(section: object) -> Pretokenizer:
    kind = section.get("type") if isinstance(section, dict) else None
    if kind == "Digits":
        is_single = checked("Digits", section, _DIGITS)["individual_digits"]
        return Pattern("single_digits" if is_single else "digits")
    if kind == "Split":
        return _read_split(checked("Split", section, _SPLIT))
    if kind == "CharDelimiterSplit":
        delimiter = checked("CharDelimiterSplit", section, _DELIMITER)["delimiter"]
        if not isinstance(delimiter, str) or len(delimiter) != 1:
            raise ValueError(
                f"CharDelimiterSplit has 'delimiter' = {brief(delimiter)}, expected one character"
            )
        return RegexPattern(_escaped(delimiter), "tokenizers", "others")
    if kind == "WhitespaceSplit":
        checked("WhitespaceSplit", section, _WHITESPACE)
        return WhitespaceSplit()
    raise ValueError(
        f"pre_tokenizer has {brief(section)} before the last one of a Sequence; expected Split, "
        "Digits, CharDelimiterSplit or WhitespaceSplit, and ByteLevel at the end"
    )


def _read_split(fields: dict[str, Any]) -> Pretokenizer:
    match fields["pattern"]:
        case {"Regex": str(pattern), **rest} if not rest:
            family = family_of(pattern, "tokenizers")
        case {"String": str(text), **rest} if text and not rest:
            pattern, family = _escaped(text), None
        case other:
            raise ValueError(
                f"Split has 'pattern' = {brief(other)}, expected "
                '{"Regex": "..."} or {"String": "..."}'
            )
    keeps = _BEHAVIORS[fields["behavior"]][fields["invert"]]
    # matches of a family lie end to end: isolating them and dropping the rest is the same
    if family is not None and keeps in ("all", "matches"):
        return Pattern(family)
    return RegexPattern(pattern, "tokenizers", keeps)


def _escaped(text: str) -> str:
    """A pattern that matches the text."""
    return "".join(f"\\{c}" if c in _OPERATORS else c for c in text)


def _write_step(step: Pretokenizer) -> dict[str, Any]:
    if isinstance(step, Pattern) and "digits" in step.family:
        return {"type": "Digits", "individual_digits": step.family == "single_digits"}
    if isinstance(step, Pattern) and step.family in PATTERNS:
        return _split(PATTERNS[step.family], "all")
    if isinstance(step, WhitespaceSplit):
        return {"type": "WhitespaceSplit"}
    if isinstance(step, RegexPattern) and step.engine == "tokenizers":
        return _split(step.pattern, step.keeps)
    raise ValueError(f"tokenizer.json cannot say {step}")


def _split(pattern: str, keeps: Keeps) -> dict[str, Any]:
    behavior = next(name for name, both in _BEHAVIORS.items() if keeps in both)
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": behavior,
        "invert": keeps != _BEHAVIORS[behavior][0],
    }


def _byte_level(*, uses_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": uses_regex,
    }


def _sequence(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": steps}
