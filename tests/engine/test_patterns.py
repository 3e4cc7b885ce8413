"""Pieces of each pattern against tokenizers, tiktoken and the regex package."""

import functools
import pickle
from itertools import accumulate
from pathlib import Path

import pytest
import regex  # type: ignore[import-untyped]  # publishes no types
import tiktoken
from hypothesis import given
from tokenizers import Regex, pre_tokenizers

from tests.engine.pattern_texts import ANY_TEXTS, CODE_POINTS, KNOWN_TEXTS, multilingual_text
from tests.engine.tokenizer_oracles import DATA, standard_library_texts
from weldlm import _tokenizer
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.bpe import Pattern, PatternSequence, RankedBpeModel
from weldlm.tokenizer.parts import Pretokenizer, TokenizerParts
from weldlm.tokenizer.pattern_families import PATTERNS, family_of
from weldlm.tokenizer.regex_pattern import RegexPattern

CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
SPELLINGS = PATTERNS | {"cl100k": CL100K.replace("$", r"\Z")}
families = pytest.mark.parametrize("family", SPELLINGS)

# what `Digits` asks has another Unicode than what `Split` asks
SPLITS = {
    family: pre_tokenizers.Split(Regex(pattern), "isolated")
    for family, pattern in PATTERNS.items()
    if "digits" not in family
} | {
    "digits": pre_tokenizers.Digits(individual_digits=False),
    "single_digits": pre_tokenizers.Digits(individual_digits=True),
    "smollm": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    ),
}
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
FEW_CODE_POINTS = [*CODE_POINTS[:0x800], *CODE_POINTS[0x800:0x3000:3], *CODE_POINTS[0x3000::499]]
# the numbers that Unicode 17 added
FEW_CODE_POINTS += [*range(0x11DE0, 0x11DEA), *range(0x16FF4, 0x16FF7)]


@functools.cache
def built(part: Pretokenizer) -> _tokenizer.Pretokenizer:
    return part.build()


def pieces(part: Pretokenizer, text: str) -> list[bytes]:
    return _tokenizer.pieces(built(part), text)  # type: ignore[arg-type]  # parts are frozen


def pieces_of_tokenizers(oracle: pre_tokenizers.PreTokenizer, text: str) -> list[bytes]:
    spans = [span for _, span in oracle.pre_tokenize_str(text)]
    return [text[begin:end].encode() for begin, end in spans]


def sizes_of_tokenizers(oracle: pre_tokenizers.PreTokenizer, text: str) -> list[int]:
    """Bytes of each piece, where the pieces lie end to end."""
    ends = [0, *accumulate(len(character.encode()) for character in text)]
    return [ends[end] - ends[begin] for _, (begin, end) in oracle.pre_tokenize_str(text)]


def code_point_text(codes: list[int]) -> str:
    """Each code point next to a letter, a number, a sign, an apostrophe, a space and a line."""
    return "".join(f"a{chr(code)}1{chr(code)}!{chr(code)}B'{chr(code)} \n" for code in codes)


@families
@given(text=KNOWN_TEXTS)
def test_pieces_are_those_of_the_regex_package(family: str, text: str) -> None:
    found = [piece.decode() for piece in pieces(Pattern(family), text)]

    assert found == regex.findall(SPELLINGS[family], text)


@pytest.mark.parametrize("family", SPLITS)
@pytest.mark.parametrize(
    "codes",
    [
        pytest.param(FEW_CODE_POINTS, id="some"),
        *(
            pytest.param(CODE_POINTS[i::32], id=f"every-32nd-from-{i}", marks=pytest.mark.slow)
            for i in range(32)
        ),
    ],
)
def test_code_points_split_as_in_tokenizers(family: str, codes: list[int]) -> None:
    text = code_point_text(codes)

    sizes = [len(piece) for piece in pieces(Pattern(family), text)]

    assert sizes == sizes_of_tokenizers(SPLITS[family], text)


@pytest.mark.parametrize("family", SPLITS)
@given(text=ANY_TEXTS)
def test_pieces_are_those_of_tokenizers(family: str, text: str) -> None:
    assert pieces(Pattern(family), text) == pieces_of_tokenizers(SPLITS[family], text)


def visible_splits(pattern: str) -> tuple[Tokenizer, tiktoken.Encoding]:
    """A vocabulary in which some bytes merge with any next byte of the same piece."""
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [bytes([left, right]) for left in b"a1!B'" for right in range(256)]
    encoding = tiktoken.Encoding(
        "visible",
        pat_str=pattern,
        mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
        special_tokens={},
    )
    family = family_of(pattern, "tiktoken")
    pretokenizer = RegexPattern(pattern, "tiktoken", "matches") if not family else Pattern(family)
    parts = TokenizerParts(tokens=tokens, model=RankedBpeModel(), pretokenizer=pretokenizer)
    return Tokenizer(parts), encoding


@pytest.mark.parametrize("family", ["gpt2", "cl100k", "qwen2", "o200k"])
@pytest.mark.parametrize(
    "codes",
    [
        pytest.param(FEW_CODE_POINTS, id="some"),
        *(
            pytest.param(CODE_POINTS[i::32], id=f"every-32nd-from-{i}", marks=pytest.mark.slow)
            for i in range(32)
        ),
    ],
)
def test_code_points_split_as_in_tiktoken(family: str, codes: list[int]) -> None:
    tokenizer, encoding = visible_splits((PATTERNS | {"cl100k": CL100K})[family])
    text = code_point_text(codes)

    assert tokenizer.encode(text) == encoding.encode(text)


@families
@pytest.mark.parametrize("name", ["text/wikitext2-valid.txt", "text/jargon.txt"])
def test_files_split_as_in_the_regex_package(family: str, name: str) -> None:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is absent; WELDLM_TEST_DATA names the folder")
    text = path.read_text(encoding="utf-8", errors="replace")[:200_000]

    found = b"\n".join(pieces(Pattern(family), text)).decode()

    assert found == "\n".join(regex.findall(SPELLINGS[family], text))


@families
@pytest.mark.parametrize("number", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_sources_split_as_in_the_regex_package(family: str, number: int) -> None:
    text = "".join(standard_library_texts(number))

    found = b"\n".join(pieces(Pattern(family), text)).decode()

    assert found == "\n".join(regex.findall(SPELLINGS[family], text))


@pytest.mark.parametrize("family", [name for name in PATTERNS if "digits" not in name])
@given(text=ANY_TEXTS)
def test_regex_package_splits_as_the_scanner(family: str, text: str) -> None:
    fallback = RegexPattern(PATTERNS[family], "tokenizers", "all")

    assert pieces(fallback, text) == pieces(Pattern(family), text)


@pytest.mark.parametrize(
    "pattern",
    [
        *DEEPSEEK,
        r"\d+|\D+",
        r"[^\S\n]+|\n",
        r"(?<=a)b+|(?<![ab])\p{Lu}",
        r"(?:ab|a)++b?|[\p{P}\p{S}]{2,}?",
        r"(?>\p{L}{1,2})\p{M}*",
        "(?i:k|don't)+|.",
        r"\A\p{L}+|\s+\z|\s",
        r"[\x{4e00}-\u9fa5]{2}|\x41|\t",
    ],
)
def test_any_pattern_splits_as_in_tokenizers(pattern: str) -> None:
    text = code_point_text(FEW_CODE_POINTS[::7]) + "abab DON'T ab! K\u212akB "
    split = pre_tokenizers.Split(Regex(pattern), "isolated")

    found = pieces(RegexPattern(pattern, "tokenizers", "all"), text)

    assert found == pieces_of_tokenizers(split, text)


@pytest.mark.parametrize(("keeps", "is_inverted"), [("others", False), ("matches", True)])
def test_matches_are_removed_as_in_tokenizers(keeps: str, is_inverted: bool) -> None:
    text = "aab, ab cc  aa"
    fallback = RegexPattern("a+|,", "tokenizers", keeps)  # type: ignore[arg-type]  # a table
    split = pre_tokenizers.Split(Regex("a+|,"), "removed", invert=is_inverted)

    assert pieces(fallback, text) == pieces_of_tokenizers(split, text)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\p{N}{1,3}+|[^\p{N}]+",
        r"\s++$|^\p{L}|.|\n",
        r"(?i:ss|fi)|[\p{L}\p{Nd}]+|[^\p{L}\p{Nd}]",
    ],
)
def test_any_pattern_splits_as_in_tiktoken(pattern: str) -> None:
    tokenizer, encoding = visible_splits(pattern)
    text = code_point_text(FEW_CODE_POINTS[::7]) + "SS \ufb01 fi  \n "

    assert tokenizer.encode(text) == encoding.encode(text)


def test_sequence_splits_as_in_tokenizers() -> None:
    text = code_point_text(FEW_CODE_POINTS[::7]) + multilingual_text()[::5]
    steps = tuple(RegexPattern(pattern, "tokenizers", "all") for pattern in DEEPSEEK)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in DEEPSEEK]

    found = pieces(PatternSequence(steps), text)

    assert found == pieces_of_tokenizers(pre_tokenizers.Sequence(splits), text)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"\w+", r"the escape \\w at character 0"),
        (r"a\b", r"the escape \\b at character 1"),
        (r"[[:alpha:]]", "a set within a set or an operation on sets at character 1"),
        (r"[\p{L}&&[^a]]", "a set within a set or an operation on sets at character 6"),
        (r"[a--b]", "an operation on sets"),
        (r"\p{Han}+", "the property 'Han', expected one of"),
        (r"\p{^L}", "the property"),
        (r"\pL", "a property without braces"),
        (r"(a)\1", r"the escape \\1"),
        (r"(?P<name>a)", "a group of another kind"),
        (r"(?i)a", "a group of another kind"),
        (r"(?i:[a-z])", "a set whose case is ignored"),
        ("(?i:\u0131)", "a letter beyond ASCII whose case is ignored"),
        (r"(?i:first)", "letters that one character folds to"),
        (r"a{1,3}+", r"a repetition of a repetition at character 6"),
        (r"a{,3}", "a brace that is no repetition"),
        (r"a**", "a repetition of a repetition"),
        (r"(?=a)*", "a repeated assertion"),
        (r"a$", "an anchor of lines"),
        (r"a\z+", "a repeated assertion"),
        (r"(a", "an opening parenthesis without a closing one"),
        (r"a)", "a closing parenthesis without an opening one"),
        (r"[a", "a set without an end"),
        (r"[z-a]", "a range whose end comes before its begin"),
        (r"\<a", r"the escape \\<"),
        ("a\\", "the escape"),
        ("[\U0001fac8-\U0001faca]", "which Unicode 16 and the regex package put into different"),
    ],
)
def test_refuses_what_engines_take_differently(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegexPattern(pattern, "tokenizers", "all").build()


def test_refuses_empty_matches() -> None:
    with pytest.raises(ValueError, match="matches no character at all in the text"):
        pieces(RegexPattern("a*", "tokenizers", "all"), "ab")


def test_threads_share_a_pattern_of_python() -> None:
    tokens = [bytes([byte]) for byte in range(256)] + [b"ab"]
    pretokenizer = RegexPattern(r"\p{L}+|\P{L}+", "tokenizers", "all")
    parts = TokenizerParts(tokens=tokens, model=RankedBpeModel(), pretokenizer=pretokenizer)
    texts = [f"ab {i} " * 3000 for i in range(20)]

    tokenizer = Tokenizer(parts)

    batch = tokenizer.encode_batch(texts, num_threads=4)

    assert [ids.tolist() for ids in batch] == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize(
    "part",
    [
        Pattern("gpt2"),
        RegexPattern("a+", "tiktoken", "matches"),
        PatternSequence((Pattern("digits"), Pattern("gpt2"))),
    ],
    ids=lambda part: type(part).__name__,
)
def test_copies_of_parts_are_equal(part: Pretokenizer) -> None:
    assert pickle.loads(pickle.dumps(part)) == part


def test_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern family 'bert' does not exist; expected one of"):
        Pattern("bert").build()


def test_scanners_are_documented_by_their_patterns() -> None:
    header = Path(__file__).parents[2] / "csrc" / "tokenizer" / "patterns.hpp"

    assert PATTERNS["gpt2"] in header.read_text(encoding="ascii")
