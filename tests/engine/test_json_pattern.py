"""Pretokenizers of tokenizer.json: read as the tokenizers library does, and written for it."""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer as OracleTokenizer
from tokenizers import models

from tests.engine.pattern_texts import fuzz_texts
from weldlm import _tokenizer
from weldlm.tokenizer.bpe import Pattern, PatternSequence
from weldlm.tokenizer.byte_characters import bytes_from_characters
from weldlm.tokenizer.json_pattern import read_byte_level, write_byte_level
from weldlm.tokenizer.parts import Pretokenizer
from weldlm.tokenizer.pattern_families import PATTERNS
from weldlm.tokenizer.regex_pattern import Keeps, RegexPattern
from weldlm.tokenizer.rewriters import WhitespaceSplit

Section = dict[str, Any]

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
LAST = BYTE_LEVEL | {"use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(
    pattern: str, behavior: str = "Isolated", *, invert: bool = False, kind: str = "Regex"
) -> Section:
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps: Section) -> Section:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def joined(keeps: Keeps) -> RegexPattern:
    return RegexPattern(r"\p{L}+|-", "tokenizers", keeps)


LETTERS = r"\p{L}+|-"
SECTIONS: dict[str, tuple[Section, Pretokenizer | None]] = {
    "gpt2": (BYTE_LEVEL, Pattern("gpt2")),
    "no-pattern": (LAST, None),
    "llama3": (sequence(split(PATTERNS["llama3"]), LAST), Pattern("llama3")),
    "cl100k": (sequence(split(PATTERNS["cl100k"]), LAST), Pattern("cl100k")),
    "gpt4o": (sequence(split(PATTERNS["o200k"], "Removed", invert=True), LAST), Pattern("o200k")),
    "smollm": (sequence(DIGITS, BYTE_LEVEL | {"use_regex": True}), Pattern("smollm")),
    "digits": (
        sequence({"type": "Digits", "individual_digits": False}, LAST),
        Pattern("digits"),
    ),
    "two-steps": (
        sequence(DIGITS, split(PATTERNS["qwen2"]), LAST),
        PatternSequence((Pattern("single_digits"), Pattern("qwen2"))),
    ),
    "any": (
        sequence(split(r"\p{L}+"), LAST),
        RegexPattern(r"\p{L}+", "tokenizers", "all"),
    ),
    "removed": (
        sequence(split(r"\s+", "Removed"), LAST),
        RegexPattern(r"\s+", "tokenizers", "others"),
    ),
    "runs": (sequence(split(LETTERS, "Contiguous"), LAST), joined("runs")),
    "previous": (
        sequence(split(LETTERS, "MergedWithPrevious"), LAST),
        joined("matches to previous"),
    ),
    "next": (sequence(split(LETTERS, "MergedWithNext"), LAST), joined("matches to next")),
    "others-to-previous": (
        sequence(split(LETTERS, "MergedWithPrevious", invert=True), LAST),
        joined("others to previous"),
    ),
    "others-to-next": (
        sequence(split(LETTERS, "MergedWithNext", invert=True), LAST),
        joined("others to next"),
    ),
    "family-of-runs": (
        sequence(split(PATTERNS["llama3"], "MergedWithNext"), LAST),
        RegexPattern(PATTERNS["llama3"], "tokenizers", "matches to next"),
    ),
    "white-space": (sequence({"type": "WhitespaceSplit"}, LAST), WhitespaceSplit()),
    "string": (
        sequence(split("a.b", kind="String"), LAST),
        RegexPattern(r"a\.b", "tokenizers", "all"),
    ),
}


def pieces_of_tokenizers(section: Section, text: str) -> list[bytes | None]:
    oracle = OracleTokenizer(models.BPE())
    document = json.loads(oracle.to_str()) | {"pre_tokenizer": section}
    splitter = OracleTokenizer.from_str(json.dumps(document)).pre_tokenizer
    return [bytes_from_characters(piece) for piece, _ in splitter.pre_tokenize_str(text)]


def pieces(part: Pretokenizer | None, text: str) -> list[bytes]:
    return [text.encode()] if part is None else _tokenizer.pieces(part.build(), text)


@pytest.mark.parametrize("name", SECTIONS)
def test_section_is_read(name: str) -> None:
    section, expected = SECTIONS[name]

    assert read_byte_level(section) == ((), expected)


@pytest.mark.parametrize("name", SECTIONS)
def test_section_splits_as_in_tokenizers(name: str) -> None:
    section, _ = SECTIONS[name]
    text = "--a--b -- a.b it's 2025 A.B a.b.c \n\n x" + "".join(fuzz_texts(300))

    assert pieces(read_byte_level(section)[1], text) == pieces_of_tokenizers(section, text)


@pytest.mark.parametrize("name", SECTIONS)
def test_written_section_is_read_back(name: str) -> None:
    _, part = SECTIONS[name]

    assert read_byte_level(write_byte_level(part)) == ((), part)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            sequence(DIGITS, BYTE_LEVEL | {"add_prefix_space": True}),
            "'add_prefix_space' = true behind other steps",
        ),
        (BYTE_LEVEL | {"add_prefix_space": None}, "'add_prefix_space' = null"),
        (sequence(), "pretokenizers is \\[\\], expected a list that is not empty"),
        (sequence(split("a")), "an object of type 'Split' at the end; expected one of type"),
        (sequence(BYTE_LEVEL, LAST), "an object of type 'ByteLevel' before the last one"),
        (sequence({"type": "Whitespace"}, LAST), "an object of type 'Whitespace' before the last"),
        (sequence(split("a", "Merged"), LAST), "'behavior' = \"Merged\""),
        (sequence({"type": "Punctuation"}, LAST), "an object of type 'Punctuation' before the"),
        (
            sequence({"type": "CharDelimiterSplit", "delimiter": "ab"}, LAST),
            "'delimiter' = \"ab\", expected one character",
        ),
        (sequence(split("a", kind="Glob"), LAST), "Split has 'pattern' = "),
        (sequence(split("", kind="String"), LAST), "Split has 'pattern' = "),
        (sequence(DIGITS | {"base": 8}, LAST), "unknown field 'base'"),
    ],
)
def test_section_is_refused_by_name(section: Section, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_byte_level(section)


def test_pattern_of_tiktoken_has_no_section() -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot say RegexPattern"):
        write_byte_level(RegexPattern("a+", "tiktoken", "matches"))


def test_delimiter_splits_as_in_tokenizers() -> None:
    section = sequence({"type": "CharDelimiterSplit", "delimiter": "."}, LAST)
    text = "..a.b. c" + "".join(fuzz_texts(100))

    assert pieces(read_byte_level(section)[1], text) == pieces_of_tokenizers(section, text)
