"""A text encoded part by part has the ids of the whole text, and they come early."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.tokenizer_oracles import gpt2, needs_gpt2, small, standard_library_texts
from weldlm.tokenizer import AddedToken, EncodeStream, Tokenizer, TokenizerParts
from weldlm.tokenizer.bert import bert_parts

DATA = Path(os.environ.get("WELDLM_TEST_DATA", "data"))
BERT_PATH = DATA / "tokenizers" / "bert-base-uncased-vocab.txt"
SPIECE_PATH = DATA / "tokenizers" / "t5-spiece.model"
WORDS = st.sampled_from(
    ["a", "the ", " ", "  ", "\n", "don't", "\u00e9", "e\u0301", "1", ".", "<t x>"]
)


def bert() -> Tokenizer:
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    return Tokenizer(bert_parts(tokens))


def with_spaced_token() -> Tokenizer:
    parts = small().parts
    token = AddedToken("<t x>", len(parts.tokens), is_special=False)
    return Tokenizer(
        TokenizerParts(
            tokens=[*parts.tokens, b"<t x>"],
            model=parts.model,
            pretokenizer=parts.pretokenizer,
            added_tokens=(*parts.added_tokens, token),
        )
    )


TOKENIZERS = {"byte-level": small, "wordpiece": bert, "spaced-token": with_spaced_token}


def streamed(tokenizer: Tokenizer, parts: list[str]) -> list[int]:
    stream = EncodeStream(tokenizer)
    ids = [token_id for part in parts for token_id in stream.push(part)]
    return ids + stream.flush()


@pytest.mark.parametrize("name", TOKENIZERS)
@given(parts=st.lists(WORDS, max_size=20))
def test_ids_are_those_of_the_whole_text(name: str, parts: list[str]) -> None:
    tokenizer = TOKENIZERS[name]()

    expected = tokenizer.encode("".join(parts), add_special_tokens=False)
    assert streamed(tokenizer, parts) == expected


@given(parts=st.lists(st.text(max_size=8), max_size=8))
def test_any_text_in_any_parts(parts: list[str]) -> None:
    assert streamed(small(), parts) == small().encode("".join(parts))


@needs_gpt2
def test_source_code_character_by_character() -> None:
    text = standard_library_texts(3)[2][:20_000]

    assert streamed(gpt2(), list(text)) == gpt2().encode(text)


@pytest.mark.skipif(not SPIECE_PATH.is_file(), reason=f"{SPIECE_PATH} is absent")
def test_tokenizer_without_cuts_gives_all_at_the_end() -> None:
    tokenizer = Tokenizer.from_file(SPIECE_PATH)

    assert streamed(tokenizer, ["Hello wor", "ld, it ", "is me"]) == tokenizer.encode(
        "Hello world, it is me"
    )


@pytest.mark.skipif(not BERT_PATH.is_file(), reason=f"{BERT_PATH} is absent")
def test_words_of_bert() -> None:
    tokenizer = Tokenizer.from_file(BERT_PATH)
    parts = ["Unaff", "able wor", "ds, \u00c9", "t\u00e9 \u4e2d\u6587 ", " end"]

    assert streamed(tokenizer, parts) == tokenizer.encode("".join(parts), add_special_tokens=False)


def test_ids_come_before_the_end() -> None:
    stream = EncodeStream(small())

    assert stream.push("def f(x): retu") == small().encode("def f(x):")
    assert stream.push("rn x") == small().encode(" return")


def test_special_token_is_refused_by_default() -> None:
    stream = EncodeStream(small())

    with pytest.raises(ValueError, match="contains the special token"):
        stream.push("a<|endoftext|> b c")


def test_stream_begins_anew_after_flush() -> None:
    stream = EncodeStream(small())

    assert stream.push("import o") + stream.flush() == small().encode("import o")
    assert stream.push("a b") + stream.flush() == small().encode("a b")


class CountedText(str):
    """A text that counts the characters of which it makes longer ones."""

    copied = 0

    def __add__(self, other: str) -> "CountedText":
        CountedText.copied += len(self) + len(other)
        return CountedText(str.__add__(self, other))

    def __getitem__(self, place: Any) -> "CountedText":
        return CountedText(str.__getitem__(self, place))


@pytest.mark.parametrize("name", ["byte-level", "spaced-token"])
def test_small_parts_without_a_cut_are_not_copied_again_and_again(name: str) -> None:
    stream = EncodeStream(TOKENIZERS[name]())
    stream._text = CountedText()
    CountedText.copied = 0

    for _ in range(10_000):
        assert stream.push("ab") == []

    assert CountedText.copied < 10_000 * 100
    assert stream.flush() == TOKENIZERS[name]().encode("ab" * 10_000)


def test_long_run_of_spaces_in_small_parts() -> None:
    parts = ["a", *["  "] * 20_000, "b c", " d"]

    assert streamed(small(), parts) == small().encode("".join(parts))
