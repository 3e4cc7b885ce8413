"""tokenizer.json: the pretokenizers of byte-level BPE, ByteLevel, Split, Digits and Sequences."""

from typing import Any

from weldlm.tokenizer.bpe import Pattern, PatternSequence
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.parts import Pretokenizer
from weldlm.tokenizer.pattern_families import PATTERNS, family_of
from weldlm.tokenizer.regex_pattern import RegexPattern

__all__ = ["read_byte_level", "write_byte_level"]

_BYTE_LEVEL: Understood = {
    "type": ("ByteLevel",),
    "add_prefix_space": (False,),
    "trim_offsets": (True, False),
    "use_regex": (True, False, None),
}
_SPLIT: Understood = {
    "type": ("Split",),
    "pattern": (ANY,),
    "behavior": ("Isolated", "Removed"),
    "invert": (True, False),
}
_DIGITS: Understood = {"type": ("Digits",), "individual_digits": (True, False)}
_SEQUENCE: Understood = {"type": ("Sequence",), "pretokenizers": (ANY,)}

_SMOLLM = (Pattern("single_digits"), Pattern("gpt2"))
_OPERATORS = frozenset(".^$*+?()[]{}|\\-&~#")


def read_byte_level(section: dict[str, Any]) -> Pretokenizer | None:
    """Reads ByteLevel, or a Sequence of Split and Digits that ends with it.

    Raises:
        ValueError: the section asks for what this package does not do.
    """
    if section.get("type") != "Sequence":
        return _joined(_read_last(section))
    steps = checked("pre_tokenizer", section, _SEQUENCE)["pretokenizers"]
    if not isinstance(steps, list) or not steps:
        raise ValueError(f"pretokenizers is {brief(steps)}, expected a list that is not empty")
    parts: tuple[Pretokenizer, ...] = ()
    for step in steps[:-1]:
        parts += (_read_step(step),)
    return _joined(parts + _read_last(steps[-1]))


def write_byte_level(pretokenizer: Pretokenizer | None) -> dict[str, Any]:
    """The pretokenizer section.

    Raises:
        ValueError: the tokenizers library has no way to say it.
    """
    if pretokenizer == Pattern("gpt2"):
        return _byte_level(uses_regex=True)
    if pretokenizer is None:
        return _byte_level(uses_regex=False)
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


def _read_last(section: object) -> tuple[Pretokenizer, ...]:
    """ByteLevel, which spells bytes in characters: nothing can be split behind it."""
    if not isinstance(section, dict) or section.get("type") != "ByteLevel":
        raise ValueError(
            f"pre_tokenizer has {brief(section)} at the end; expected one of type 'ByteLevel'"
        )
    fields = checked("pre_tokenizer", section, _BYTE_LEVEL)
    return () if fields["use_regex"] is False else (Pattern("gpt2"),)


def _read_step(section: object) -> Pretokenizer:
    kind = section.get("type") if isinstance(section, dict) else None
    if kind == "Digits":
        is_single = checked("Digits", section, _DIGITS)["individual_digits"]
        return Pattern("single_digits" if is_single else "digits")
    if kind == "Split":
        return _read_split(checked("Split", section, _SPLIT))
    raise ValueError(
        f"pre_tokenizer has {brief(section)} before the last one of a Sequence; expected Split "
        "or Digits, and ByteLevel at the end"
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
    is_isolated = fields["behavior"] == "Isolated"
    # matches of a family lie end to end: isolating them and dropping the rest is the same
    if family is not None and (is_isolated or fields["invert"]):
        return Pattern(family)
    if is_isolated:
        return RegexPattern(pattern, "tokenizers", "all")
    return RegexPattern(pattern, "tokenizers", "matches" if fields["invert"] else "others")


def _escaped(text: str) -> str:
    """A pattern that matches the text."""
    return "".join(f"\\{c}" if c in _OPERATORS else c for c in text)


def _write_step(step: Pretokenizer) -> dict[str, Any]:
    if isinstance(step, Pattern) and "digits" in step.family:
        return {"type": "Digits", "individual_digits": step.family == "single_digits"}
    if isinstance(step, Pattern) and step.family in PATTERNS:
        return _split(PATTERNS[step.family], "all")
    if isinstance(step, RegexPattern) and step.engine == "tokenizers":
        return _split(step.pattern, step.keeps)
    raise ValueError(f"tokenizer.json cannot say {step}")


def _split(pattern: str, keeps: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated" if keeps == "all" else "Removed",
        "invert": keeps == "matches",
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
