"""Added tokens match where the tokenizers library matches them, whatever their flags."""

import functools
import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.tokenizer_oracles import standard_library_texts
from weldlm.tokenizer import Tokenizer

FLAGS = ("special", "normalized", "single_word", "lstrip", "rstrip")
# None begins with white space: where a token has taken that space already, tokenizers gives out a
# token that lies within another.
TOKENS = ("<t>", "<t>s", "[m]", "q", "x ")
TEXTS = st.lists(
    st.sampled_from(
        [*TOKENS, " ", "\n", "\u3000", "a", "_", "1", "\u00bd", "\u00e9", "\u200d", "."]
    )
).map("".join)


@functools.cache
def both(flags: tuple[bool, ...]) -> tuple[Tokenizer, Any]:
    """Ours and theirs with TOKENS of these flags."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        Tokenizer.train(standard_library_texts(4), 400).save(path)
        document = json.loads(path.read_text(encoding="utf-8"))
        document["added_tokens"] += [
            {"id": 400 + i, "content": content, **dict(zip(FLAGS, flags, strict=True))}
            for i, content in enumerate(TOKENS)
            if content not in document["model"]["vocab"]
        ]
        known = document["model"]["vocab"]
        for number, row in enumerate(document["added_tokens"][1:]):
            row["id"] = len(known) + number
        path.write_text(json.dumps(document), encoding="utf-8")
        return Tokenizer.from_file(path), tokenizers.Tokenizer.from_file(str(path))


@pytest.mark.parametrize("flags", [*product([True, False], repeat=5)], ids=str)
@given(text=TEXTS)
def test_ids_are_those_of_tokenizers(flags: tuple[bool, ...], text: str) -> None:
    ours, theirs = both(flags)

    assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids


def single_word_ids(characters: list[str]) -> tuple[list[list[int]], list[list[int]]]:
    ours, theirs = both((True, False, True, False, False))
    texts = [f"{character}<t>" for character in characters]
    found = ours.encode_batch(texts, allowed_special="all")
    return [ids.tolist() for ids in found], [e.ids for e in theirs.encode_batch(texts)]


@pytest.mark.parametrize("first", range(0, 0x30000, 0x1000), ids=hex)
def test_every_seventh_character_is_a_word_or_not_as_in_tokenizers(first: int) -> None:
    codes = range(first, first + 0x1000, 7)
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]

    found, expected = single_word_ids(characters)

    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 0x110000, 0x10000), ids=hex)
def test_every_character_is_a_word_or_not_as_in_tokenizers(first: int) -> None:
    codes = range(first, first + 0x10000)
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]

    found, expected = single_word_ids(characters)

    assert found == expected


SPECIAL_AND_NORMALIZED = (True, True, False, False, False)


def test_normalized_special_token_takes_effect_in_a_trusted_segment() -> None:
    ours, _ = both(SPECIAL_AND_NORMALIZED)

    ids = ours.encode_segments([("a<t>", True), ("<t>", False)])

    assert ids == ours.encode("a<t>", allowed_special="all") + ours.encode_ordinary("<t>")


@pytest.mark.parametrize("is_normalized", [False, True])
def test_no_added_token_crosses_the_border_of_segments(is_normalized: bool) -> None:
    ours, _ = both((False, is_normalized, False, False, False))

    ids = ours.encode_segments([("<", True), ("t>", True)])

    assert ours.token_to_id("<t>") not in ids
