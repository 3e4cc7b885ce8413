"""Ids against the tokenizers library and tiktoken, pieces against the regex package."""

import sys
import time

import hypothesis.strategies as st
import numpy as np
import pytest
import regex  # type: ignore[import-untyped]  # publishes no types
import tiktoken
from hypothesis import given, settings
from tokenizers import pre_tokenizers

from tests.engine.tokenizer_oracles import (
    DATA,
    GPT2_PATTERN,
    gpt2,
    gpt2_of_tiktoken,
    gpt2_of_tokenizers,
    needs_gpt2,
    small,
    small_of_tokenizers,
    standard_library_texts,
)
from weldlm import _tokenizer
from weldlm.tokenizer import Tokenizer, TokenizerParts
from weldlm.tokenizer.bpe import BpeModel, Pattern

CODE_POINTS = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
# the planes with letters, and the tags; what lies between is not assigned or private
USED = [code for code in CODE_POINTS if code < 0x34000 or 0xE0000 <= code < 0xE1000]

# parts that meet at the borders of the pattern
PARTS = [
    *("a", "B", "s", "t", "re", "ve", "ll", "d", "m", "'", "'s", "'LL", "\u017f", "\u2019"),
    *(" ", "  ", "\n", "\t", "\r\n", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"),
    *("0", "7", "123", "\xbd", "\u0663", "\u2167", "!", "?", "==", "_", "\\", "\u0301", "\ufeff"),
    *("\xe9", "\u4e2d\u6587", "\u0e01\u0e33", "\U0001f600", "\U0001f468\u200d\U0001f469", "\x00"),
    "<|endoftext|>",
]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.lists(st.sampled_from(PARTS), max_size=30).map("".join),
    st.text(st.sampled_from("ab \n'1"), max_size=200),
)
# old enough that every library knows their category
KNOWN_TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)

FILES = ["text/tinyshakespeare.txt", "text/wikitext2-valid.txt", "text/jargon.txt"]


def one_visible_split() -> tuple[Tokenizer, tiktoken.Encoding]:
    """A vocabulary in which a, 1 and ! merge with any next byte of the same piece."""
    joined = [bytes([left, right]) for left in b"a1!" for right in range(256)]
    tokens = [bytes([byte]) for byte in range(256)] + joined
    ids = {token: i for i, token in enumerate(tokens)}
    merges = np.array([(token[0], token[1], ids[token]) for token in joined], dtype=np.uint32)
    encoding = tiktoken.Encoding(
        "visible", pat_str=GPT2_PATTERN, mergeable_ranks=ids, special_tokens={}
    )
    parts = TokenizerParts(tokens=tokens, model=BpeModel(merges), pretokenizer=Pattern("gpt2"))
    return Tokenizer(parts), encoding


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param(USED, id="used"),
        pytest.param(CODE_POINTS[::97], id="every-97th"),
        pytest.param(CODE_POINTS, id="all", marks=pytest.mark.slow),
    ],
)
def test_code_points_have_the_class_that_tiktoken_gives_them(codes: list[int]) -> None:
    tokenizer, encoding = one_visible_split()
    text = "".join(f"a{chr(code)}1{chr(code)}!{chr(code)}" for code in codes)

    assert tokenizer.encode(text) == encoding.encode(text)


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param(CODE_POINTS[::97], id="every-97th"),
        pytest.param(CODE_POINTS, id="all", marks=pytest.mark.slow),
    ],
)
def test_code_points_split_as_in_tokenizers(codes: list[int]) -> None:
    text = "".join(f"a{chr(code)}1{chr(code)}!{chr(code)}" for code in codes)
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)

    pieces = [len(piece.decode()) for piece in _tokenizer.pieces(Pattern("gpt2").build(), text)]

    expected = [end - start for _, (start, end) in pre_tokenizer.pre_tokenize_str(text)]
    assert pieces == expected


@given(text=KNOWN_TEXTS)
def test_pieces_are_those_of_the_regex_package(text: str) -> None:
    pieces = [piece.decode() for piece in _tokenizer.pieces(Pattern("gpt2").build(), text)]

    assert pieces == regex.findall(GPT2_PATTERN, text)


@needs_gpt2
@pytest.mark.parametrize("name", FILES)
def test_files_encode_as_in_tokenizers(name: str) -> None:
    text = (DATA / name).read_text(encoding="utf-8", errors="replace")[:100_000]

    ids = gpt2().encode_ordinary(text)

    assert ids == gpt2_of_tokenizers().encode(text).ids


@needs_gpt2
@pytest.mark.parametrize("name", FILES)
def test_files_encode_as_in_tiktoken(name: str) -> None:
    text = (DATA / name).read_text(encoding="utf-8", errors="replace")

    ids = gpt2().encode_ordinary(text)

    assert ids == gpt2_of_tiktoken().encode_ordinary(text)


@given(text=TEXTS)
def test_small_vocabulary_encodes_as_in_tokenizers(text: str) -> None:
    ids = small().encode(text, allowed_special="all")

    assert ids == small_of_tokenizers().encode(text).ids


@needs_gpt2
@given(text=TEXTS)
def test_encodes_as_in_tokenizers(text: str) -> None:
    ids = gpt2().encode(text, allowed_special="all")

    assert ids == gpt2_of_tokenizers().encode(text).ids


@needs_gpt2
@given(text=TEXTS)
def test_encodes_special_text_as_plain_text_as_in_tiktoken(text: str) -> None:
    ids = gpt2().encode(text, disallowed_special=())

    assert ids == gpt2_of_tiktoken().encode(text, disallowed_special=())


@needs_gpt2
@given(text=st.text(st.sampled_from("a\ud800\udc00\ud83d\ude00\udfff "), max_size=12))
def test_surrogates_encode_as_in_tiktoken(text: str) -> None:
    ids = gpt2().encode(text)

    assert ids == gpt2_of_tiktoken().encode(text)


@needs_gpt2
@given(ids=st.lists(st.integers(0, 50256), max_size=60))
def test_any_ids_decode_as_in_tokenizers(ids: list[int]) -> None:
    text = gpt2().decode(ids)

    assert text == gpt2_of_tokenizers().decode(ids, skip_special_tokens=False)


@given(text=TEXTS)
def test_decoding_gives_the_text_back(text: str) -> None:
    assert small().decode(small().encode_ordinary(text)) == text


@needs_gpt2
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * 300_000, id="one-letter"),
        pytest.param("abcdefghijklmnopqrstuvwxyz" * 12_000, id="alphabet"),
        pytest.param(" " * 300_000, id="spaces"),
        pytest.param("\n" * 300_000, id="newlines"),
        pytest.param("=" * 300_000, id="signs"),
        pytest.param("\u4e2d\u6587\u5b57" * 33_000, id="ideographs"),
        pytest.param("".join(map(chr, range(0x4E00, 0x9FFF))) * 4, id="distinct-ideographs"),
    ],
)
def test_long_piece_takes_no_quadratic_time(text: str) -> None:
    start = time.process_time()
    ids = gpt2().encode(text)
    seconds = time.process_time() - start

    assert ids == gpt2_of_tiktoken().encode(text)
    # about 0.05 s; a scan for each merge would take at least 20 s
    assert seconds < 3


@pytest.mark.parametrize("size", [63, 64, 65, 66, 127, 1023], ids=lambda size: f"{size}-bytes")
def test_both_ways_to_merge_agree_at_their_border(size: int) -> None:
    source = "".join(filter(str.isalpha, standard_library_texts(3)[0]))
    text = " ".join(source[start : start + size] for start in range(0, len(source), size))

    assert small().encode(text) == small_of_tokenizers().encode(text).ids


@pytest.mark.slow
@needs_gpt2
@settings(max_examples=30_000, deadline=None)
@given(text=TEXTS)
def test_encodes_as_in_tiktoken_for_long(text: str) -> None:
    assert gpt2().encode_ordinary(text) == gpt2_of_tiktoken().encode_ordinary(text)


@pytest.mark.slow
@settings(max_examples=30_000, deadline=None)
@given(text=TEXTS)
def test_small_vocabulary_encodes_as_in_tokenizers_for_long(text: str) -> None:
    ids = small().encode(text, allowed_special="all")

    assert ids == small_of_tokenizers().encode(text).ids
