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

from tests.engine.tokenizer_files import content
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
            {"id": 400 + i, "content": token, **dict(zip(FLAGS, flags, strict=True))}
            for i, token in enumerate(TOKENS)
            if token not in document["model"]["vocab"]
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


NORMALIZERS: dict[str, dict[str, Any]] = {
    "lowercase": {"type": "Lowercase"},
    "nfd": {"type": "NFD"},
    "replace": {"type": "Replace", "pattern": {"String": "T"}, "content": "th"},
    "prepend": {"type": "Prepend", "prepend": "the"},
    "strip": {"type": "Strip", "strip_left": True, "strip_right": True},
    "bert": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
}
NORMALIZED_TOKENS = ("[ENT]", "<\u00c9>", " T")


@functools.cache
def both_normalized(name: str, special: bool) -> tuple[Tokenizer, Any]:
    """Ours and theirs with a normalizer that changes NORMALIZED_TOKENS."""
    document = json.loads(content("json-wordpiece"))
    document["normalizer"] = NORMALIZERS[name]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    document["added_tokens"] += [
        {"id": len(document["model"]["vocab"]) + i, "content": token, "special": special, **flags}
        for i, token in enumerate(NORMALIZED_TOKENS)
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(document))
        return Tokenizer.from_file(path), tokenizers.Tokenizer.from_file(str(path))


@pytest.mark.parametrize("special", [False, True], ids=["ordinary", "special"])
@pytest.mark.parametrize("name", NORMALIZERS)
@given(
    text=st.lists(
        st.sampled_from([*NORMALIZED_TOKENS, "[ent]", "<e>", "the", "th", " ", "\u00e9", "a", "["])
    ).map("".join)
)
def test_normalized_tokens_match_as_in_tokenizers(name: str, special: bool, text: str) -> None:
    ours, theirs = both_normalized(name, special)

    ids = ours.encode(text, allowed_special="all")

    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids)


def test_special_token_is_refused_as_it_is_written() -> None:
    ours, _ = both_normalized("lowercase", True)

    with pytest.raises(ValueError, match=r"special token '\[ENT\]' at byte 2"):
        ours.encode("a [ENT]")


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("lowercase", ("[ENT]", "[ent]"), r"'\[ent\]' is given twice, or normalized as another"),
        ("strip", ("  ",), "'  ' is empty once it is normalized"),
    ],
    ids=["alike", "empty"],
)
def test_token_that_the_normalizer_leaves_without_a_text_of_its_own_is_refused(
    name: str, contents: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    document = json.loads(content("json-wordpiece"))
    document["normalizer"] = NORMALIZERS[name]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": False}
    size = len(document["model"]["vocab"])
    document["added_tokens"] += [
        {"id": size + i, "content": token, "normalized": True, **flags}
        for i, token in enumerate(contents)
    ]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))

    with pytest.raises(ValueError, match=message):
        Tokenizer.from_file(path)
