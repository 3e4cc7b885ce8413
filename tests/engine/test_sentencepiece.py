"""Ids, offsets and text of .model files against the sentencepiece package."""

import pickle
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.engine.sentencepiece_oracles import NAMES, needs_data, pair
from tests.engine.tokenizer_oracles import DATA

pytestmark = needs_data

CODE_POINTS = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
# the planes with letters
USED = [code for code in CODE_POINTS if code < 0x34000]

# parts that meet at the rules for white space, for unknown characters and for kept strings
PARTS = [
    *("a", "b", "the", "ing", "xyz", "foo bar", "<sep>", "1", "23", "!", "?", "---", "===="),
    *(" ", "  ", "     ", "\t", "\n", "\r\n", "\u2581", "\u2581\u2581", "\u3000", "\xa0", "\u200b"),
    *("\x00", "\x01", "\ufeff", "\ufffd", "\u0301", "e\u0301", "\xe9", "\ufb01", "\u2122", "\xbd"),
    *("\u4e2d", "\u6587", "\u1100\u1161", "\u0130", "\U0001f600", "\U0001f468\u200d\U0001f469"),
    *("</s>", "<s>", "<pad>", "<unk>", "<0x41>", "<c1>"),
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=25).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.text(st.sampled_from("ab \u2581\n"), max_size=100),
)
# no character that a rule replaces by several, of which a token may hold one alone
WHOLE_TEXTS = st.lists(
    st.sampled_from(["a", "b", "the", "ing", " ", "  ", "\t", "\u3000", "\x01", "\xe9", "\u4e2d"]),
    min_size=1,
    max_size=25,
).map("".join)
FILES = ["devil.txt", "jargon.txt", "wikitext2-valid.txt"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "codes",
    [
        pytest.param(USED[::31], id="every-31st"),
        pytest.param(CODE_POINTS, id="all", marks=pytest.mark.slow),
    ],
)
def test_code_points_alone_and_between_letters(name: str, codes: list[int]) -> None:
    both = pair(name)
    texts = [text for code in codes for text in (chr(code), f"a{chr(code)}b")]

    ids = [row.tolist() for row in both.ours.encode_batch(texts, disallowed_special=())]

    assert ids == both.theirs.encode(texts)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_ids_of_any_text(name: str, text: str) -> None:
    both = pair(name)

    assert both.ours.encode_ordinary(text) == both.theirs.encode(text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", FILES)
def test_ids_of_the_lines_of_a_corpus(name: str, file: str) -> None:
    both = pair(name)
    lines = (DATA / "text" / file).read_text(encoding="utf-8", errors="replace").split("\n")[:1500]

    ids = [row.tolist() for row in both.ours.encode_batch(lines)]

    assert ids == both.theirs.encode(lines)


@pytest.mark.parametrize("name", ["t5", "unigram", "bpe"])
def test_ids_of_a_whole_corpus_whose_sums_are_rounded(name: str) -> None:
    both = pair(name)
    text = (DATA / "text" / "kjv-bible.txt").read_text(encoding="utf-8")[:400_000]

    assert both.ours.encode_ordinary(text) == both.theirs.encode(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", [*FILES, "kjv-bible.txt", "tinyshakespeare.txt"])
def test_ids_of_every_corpus_as_one_text(name: str, file: str) -> None:
    both = pair(name)
    text = (DATA / "text" / file).read_text(encoding="utf-8", errors="replace")

    assert both.ours.encode_ordinary(text) == both.theirs.encode(text)


@pytest.mark.parametrize("name", ["t5", "unigram", "bpe", "bpe-unknown", "bpe-phrases"])
@settings(max_examples=150, deadline=None)
@given(text=WHOLE_TEXTS)
def test_offsets_of_tokens_that_are_no_bytes(name: str, text: str) -> None:
    both = pair(name)
    theirs = both.theirs.encode(text, return_type="offset_mapping")
    is_whole = np.array([not both.theirs.is_byte(i) for i in theirs["ids"]], dtype=bool)

    located = both.ours.encode_with_offsets(text, disallowed_special=())

    assert located.offsets[is_whole].tolist() == [
        list(place) for place, whole in zip(theirs["offsets"], is_whole, strict=True) if whole
    ]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_text_of_the_ids_of_a_text(name: str, text: str) -> None:
    both = pair(name)
    ids = both.theirs.encode(text)

    assert both.ours.decode(ids) == both.theirs.decode(ids)


@pytest.mark.parametrize("name", ["t5", "bpe-unknown", "unigram-kept", "unigram-runs"])
@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 699), max_size=8))
def test_text_of_any_ids(name: str, ids: list[int]) -> None:
    both = pair(name)

    assert both.ours.decode(ids) == both.theirs.decode(ids)


def test_control_pieces_take_effect_where_they_are_allowed() -> None:
    both = pair("t5")

    ids = both.ours.encode("to be</s>or not", allowed_special={"</s>"})

    assert ids == [*both.theirs.encode("to be"), 1, *both.theirs.encode("or not")]


@pytest.mark.parametrize("name", ["t5", "bpe", "unigram-kept"])
def test_pickled_tokenizer_encodes_the_same(name: str) -> None:
    ours = pair(name).ours

    again = pickle.loads(pickle.dumps(ours))

    assert again.encode_ordinary("The  quick <sep> fox") == ours.encode_ordinary(
        "The  quick <sep> fox"
    )
