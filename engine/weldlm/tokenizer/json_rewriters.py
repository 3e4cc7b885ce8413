"""tokenizer.json: what happens to text around SentencePiece vocabularies."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weldlm.tokenizer import rewriters
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.json_vocabulary import added_bytes
from weldlm.tokenizer.parts import Decoder, Normalizer, Pretokenizer

__all__ = [
    "DECODERS",
    "NORMALIZERS",
    "PRETOKENIZERS",
    "check_work",
    "write_decoder",
    "write_normalizer",
    "write_pretokenizer",
]

Section = dict[str, Any]

# more would let a short text become one that fills the memory, or a call take long
_MOST_TEXT = 1_000  # characters of a string that is put into texts, or replaced
_MOST_GROWTH = 4_000  # times that all steps together may make a text longer
_MOST_STEPS = 256
_MOST_DECODED = 8  # bytes that stand for one byte of a token

_METASPACE: Understood = {
    "type": ("Metaspace",),
    "replacement": (ANY,),
    "add_prefix_space": (True, False, None),
    "prepend_scheme": ("always", "first", "never", None),
    "split": (True, False, None),
    "str_rep": (ANY, None),
}
# the regular expressions that are understood
_SPACE_RUNS = " {2,}"
_STRIPPED_RUNS = {
    "\\A +": rewriters.StripRuns(" ", left=True, right=False),
    "\u2581+\\z": rewriters.StripRuns("\u2581", left=False, right=True),
}


def _read_precompiled(section: Section) -> tuple[Normalizer, ...]:
    fields = checked(
        "normalizer", section, {"type": ("Precompiled",), "precompiled_charsmap": (ANY,)}
    )
    try:
        charsmap = base64.b64decode(fields["precompiled_charsmap"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"precompiled_charsmap is not base64: {error}") from error
    return (rewriters.Precompiled(charsmap),)


def _read_prepend(section: Section) -> tuple[Normalizer, ...]:
    fields = checked("normalizer", section, {"type": ("Prepend",), "prepend": (ANY,)})
    return (rewriters.Prepend(_text("prepend", fields["prepend"])),)


def _read_replace(section: Section) -> tuple[Normalizer, ...]:
    fields = checked(
        "normalizer", section, {"type": ("Replace",), "pattern": (ANY,), "content": (ANY,)}
    )
    for regex, strip in _STRIPPED_RUNS.items():
        if fields["pattern"] == {"Regex": regex} and fields["content"] == "":
            return (strip,)
    content = _text("content", fields["content"])
    if fields["pattern"] == {"Regex": _SPACE_RUNS}:
        return (rewriters.Replace(" ", content, 2),)
    return (rewriters.Replace(_pattern(fields["pattern"]), content),)


def _read_strip(section: Section) -> tuple[Normalizer, ...]:
    both = (True, False)
    fields = checked(
        "normalizer", section, {"type": ("Strip",), "strip_left": both, "strip_right": both}
    )
    return (rewriters.Strip(fields["strip_left"], fields["strip_right"]),)


def _read_nmt(section: Section) -> tuple[Normalizer, ...]:
    checked("normalizer", section, {"type": ("Nmt",)})
    return (rewriters.Nmt(),)


NORMALIZERS: Mapping[str, Callable[[Section], tuple[Normalizer, ...]]] = {
    "Precompiled": _read_precompiled,
    "Prepend": _read_prepend,
    "Replace": _read_replace,
    "Strip": _read_strip,
    "Nmt": _read_nmt,
}


def check_work(normalizers: Sequence[Normalizer]) -> None:
    """Refuses steps that together would take too much time or memory for a text.

    Raises:
        ValueError: names the first one that is too many.
    """
    growth = 1.0
    for number, step in enumerate(normalizers):
        if isinstance(step, rewriters.Replace):
            size = len(step.pattern.encode()) * max(1, step.least)
            growth *= max(1.0, len(step.content.encode()) / size)
        if growth > _MOST_GROWTH or number >= _MOST_STEPS:
            raise ValueError(
                f"normalizer {number} of {len(normalizers)} is too much work; expected at most "
                f"{_MOST_STEPS} that make a text at most {_MOST_GROWTH:,} times as long"
            )


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {brief(value)}, expected a string that is not empty")
    if len(value) > _MOST_TEXT:
        raise ValueError(
            f"{name} is a string of {len(value):,} characters, expected at most {_MOST_TEXT:,}"
        )
    added_bytes(value)
    return value


def _pattern(pattern: object) -> str:
    match pattern:
        case {"String": str(text), **others} if text and not others:
            return _text("pattern", text)
        case _:
            raise ValueError(
                f"Replace has the pattern {brief(pattern)}, which is not supported; expected "
                f'{{"String": ...}} or {{"Regex": "{_SPACE_RUNS}"}}'
            )


def _metaspace(name: str, section: Section) -> tuple[str, rewriters.PrependScheme, bool]:
    """The replacement, the scheme, and whether text is split."""
    fields = checked(name, section, _METASPACE)
    replacement = _text("replacement", fields["replacement"])
    if len(replacement) != 1:
        raise ValueError(f"{name} has 'replacement' = {brief(replacement)}, expected one character")
    scheme: rewriters.PrependScheme = fields["prepend_scheme"] or "always"
    if fields["add_prefix_space"] is False:
        if scheme != "never" and fields["prepend_scheme"] is not None:
            raise ValueError(f"{name} has no prefix space, but prepend_scheme {scheme!r}")
        scheme = "never"
    return replacement, scheme, fields["split"] is not False


def _read_metaspace(
    section: Section,
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    replacement, scheme, is_split = _metaspace("pre_tokenizer", section)
    rewriter = rewriters.Metaspace(replacement, scheme)
    return (rewriter,), rewriters.DelimiterCutter(replacement) if is_split else None


def _read_whitespace_split(
    section: Section,
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    checked("pre_tokenizer", section, {"type": ("WhitespaceSplit",)})
    return (), rewriters.WhitespaceSplit()


def _read_words(
    section: Section,
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    """Reads the Sequence of the pretokenizers WhitespaceSplit and Metaspace."""
    fields = checked("pre_tokenizer", section, {"type": ("Sequence",), "pretokenizers": (ANY,)})
    match fields["pretokenizers"]:
        case [{"type": "WhitespaceSplit"} as first, {"type": "Metaspace"} as second]:
            _read_whitespace_split(first)
            replacement, scheme, is_split = _metaspace("pre_tokenizer", second)
        case _:
            raise ValueError(
                f"pre_tokenizer is the Sequence {brief(fields['pretokenizers'])}, expected "
                "WhitespaceSplit and Metaspace"
            )
    if scheme != "always" or not is_split:
        raise ValueError(
            f"Metaspace behind WhitespaceSplit has prepend_scheme {scheme!r} and split "
            f"{is_split}, expected 'always' and true"
        )
    return (rewriters.MetaspaceWords(replacement),), rewriters.DelimiterCutter(replacement)


PRETOKENIZERS: Mapping[
    str, Callable[[Section], tuple[tuple[Normalizer, ...], Pretokenizer | None]]
] = {
    "Metaspace": _read_metaspace,
    "WhitespaceSplit": _read_whitespace_split,
    "Sequence": _read_words,
}


def _read_metaspace_decoder(section: Section) -> Decoder:
    replacement, scheme, _ = _metaspace("decoder", section)
    return rewriters.MetaspaceDecoder(replacement, scheme)


def _read_replace_decoder(section: Section) -> Decoder:
    fields = checked("decoder", section, {"type": ("Sequence",), "decoders": (ANY,)})
    match fields["decoders"]:
        case [
            {"type": "Replace", "pattern": pattern, "content": str(content)},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            *rest,
        ]:
            replaced = _pattern(pattern)
            if len(content.encode("utf-8", "surrogatepass")) > _MOST_DECODED * len(replaced):
                raise ValueError(
                    f"decoder has the content {brief(content)} for {brief(replaced)}, expected at "
                    f"most {_MOST_DECODED} bytes for each character"
                )
        case _:
            raise ValueError(
                f"decoder is the Sequence {brief(fields['decoders'])}, expected Replace, "
                "ByteFallback, Fuse and perhaps Strip"
            )
    match rest:
        case []:
            return rewriters.ReplaceDecoder(replaced, content, "")
        case [{"type": "Strip", "content": str(stripped), "start": 1, "stop": 0}]:
            return rewriters.ReplaceDecoder(replaced, content, stripped)
        case _:
            raise ValueError(
                f"decoder ends with {brief(rest)}, expected Strip of one character at the start"
            )


DECODERS: Mapping[str, Callable[[Section], Decoder]] = {
    "Metaspace": _read_metaspace_decoder,
    "Sequence": _read_replace_decoder,
}


def write_normalizer(normalizer: Normalizer) -> Section:
    """A normalizer section.

    Raises:
        ValueError: the tokenizers library has no way to say it.
    """
    match normalizer:
        case rewriters.Precompiled(charsmap):
            encoded = base64.b64encode(charsmap).decode()
            return {"type": "Precompiled", "precompiled_charsmap": encoded}
        case rewriters.Prepend(content):
            return {"type": "Prepend", "prepend": content}
        case rewriters.Replace(" ", content, 2):
            return _replace({"Regex": _SPACE_RUNS}, content)
        case rewriters.Replace(pattern, content, 0):
            return _replace({"String": pattern}, content)
        case rewriters.Strip(left, right):
            return {"type": "Strip", "strip_left": left, "strip_right": right}
        case rewriters.Nmt():
            return {"type": "Nmt"}
    for regex, strip in _STRIPPED_RUNS.items():
        if normalizer == strip:
            return _replace({"Regex": regex}, "")
    raise ValueError(f"{normalizer} is not written to tokenizer.json")


def write_pretokenizer(steps: tuple[Normalizer, ...], pretokenizer: Pretokenizer | None) -> Section:
    """The pretokenizer section that stands for rewriters and what splits the text behind them.

    Raises:
        ValueError: the tokenizers library has no way to say it.
    """
    match steps, pretokenizer:
        case (), rewriters.WhitespaceSplit():
            return {"type": "WhitespaceSplit"}
        case (rewriters.Metaspace(replacement, scheme),), None:
            return _metaspace_section(replacement, scheme, is_split=False)
        case (rewriters.Metaspace(replacement, scheme),), rewriters.DelimiterCutter(delimiter) if (
            delimiter == replacement
        ):
            return _metaspace_section(replacement, scheme, is_split=True)
        case (rewriters.MetaspaceWords(replacement),), rewriters.DelimiterCutter(delimiter) if (
            delimiter == replacement
        ):
            last = _metaspace_section(replacement, "always", is_split=True)
            return {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, last]}
    raise ValueError(f"{steps} and then {pretokenizer} are not written to tokenizer.json")


def write_decoder(decoder: Decoder) -> Section:
    """The decoder section.

    Raises:
        ValueError: the tokenizers library has no way to say it.
    """
    match decoder:
        case rewriters.MetaspaceDecoder(replacement, scheme):
            return _metaspace_section(replacement, scheme, is_split=True)
        case rewriters.ReplaceDecoder(pattern, content, stripped):
            replace = _replace({"String": pattern}, content)
            decoders = [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]
            if stripped:
                decoders.append({"type": "Strip", "content": stripped, "start": 1, "stop": 0})
            return {"type": "Sequence", "decoders": decoders}
    raise ValueError(f"{decoder} is not written to tokenizer.json")


def _replace(pattern: dict[str, str], content: str) -> Section:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _metaspace_section(
    replacement: str, scheme: rewriters.PrependScheme, *, is_split: bool
) -> Section:
    return {
        "type": "Metaspace",
        "replacement": replacement,
        "prepend_scheme": scheme,
        "split": is_split,
    }
