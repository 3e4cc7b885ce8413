"""tokenizer.json of SentencePiece vocabularies against the tokenizers library."""

import base64
import functools
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given, settings

from tests.engine.sentencepiece_oracles import CORPUS, T5_PATH, needs_data, pair
from tests.engine.tokenizer_oracles import DATA
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.json_fields import read_float, written_float
from weldlm.tokenizer.spiece_model import PieceKind, SpieceModel, parse_spiece_model, spiece_parts
from weldlm.tokenizer.unigram_training import T5_LAYOUT, UnigramSettings, train_unigram

pytestmark = needs_data

METASPACE = {
    "type": "Metaspace",
    "replacement": "\u2581",
    "prepend_scheme": "always",
    "split": True,
}
STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}
SPACE_RUNS = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}
WORDS = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]}
PARTS = [
    *("a", "b", "the", "ing", "foo bar", "1", "23", "!", "----", "====", "\u2122----", "xyz"),
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\u2581",
        "\u2581\u2581",
        "\u3000",
        "\xa0",
        "\u200b",
        "\ufeff",
    ),
    *(
        "\x01",
        "\u0301",
        "\xbd",
        "e\u0301",
        "a\u0308\u0323",
        "\u4e2d",
        "\u1100\u1161",
        "\uac00\u11a8",
    ),
    *("\u0903", "\u0600", "\u0915\u094d\u0915\u0308", "\xa9\u200d\xa9\u0301", "\u0e33", "\ufe0f"),
    *("\U0001f1e9\U0001f1ea", "\U0001f600", "\U0001f468\u200d\U0001f469\u0301", "\u200d"),
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=20).map("".join)


def document(model: SpieceModel, section: dict[str, Any], **parts: Any) -> dict[str, Any]:
    special = model.ids(PieceKind.UNKNOWN, PieceKind.CONTROL).tolist()
    options = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": model.pieces[i], "special": True} | options for i in special
        ],
        "model": section,
    } | parts


def unigram(model: SpieceModel, **parts: Any) -> dict[str, Any]:
    rows = [[piece, float(score)] for piece, score in zip(model.pieces, model.scores, strict=True)]
    section = {
        "type": "Unigram",
        "unk_id": int(model.ids(PieceKind.UNKNOWN)[0]),
        "vocab": rows,
        "byte_fallback": model.byte_fallback,
    }
    return document(model, section, decoder=METASPACE, **parts)


def llama(model: SpieceModel) -> dict[str, Any]:
    ids = {piece: i for i, piece in enumerate(model.pieces)}
    splits = [
        (-model.scores[i], ids[piece[:cut]], ids[piece[cut:]], [piece[:cut], piece[cut:]])
        for i, piece in enumerate(model.pieces)
        for cut in range(1, len(piece))
        if model.kinds[i] == PieceKind.NORMAL and piece[:cut] in ids and piece[cut:] in ids
    ]
    section = {
        "type": "BPE",
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": ids,
        "merges": [pieces for *_, pieces in sorted(splits)],
    }
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    metaspaces = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [metaspaces, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    return document(
        model,
        section,
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, spaces],
        },
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": decoders},
    )


def written(name: str) -> dict[str, Any]:
    small = parse_spiece_model(pair("bpe" if name == "llama" else "unigram").data)
    t5 = parse_spiece_model(T5_PATH.read_bytes())
    rules = {
        "type": "Precompiled",
        "precompiled_charsmap": base64.b64encode(t5.charsmap).decode(),
    }
    right = STRIP | {"strip_left": False}
    match name:
        case "t5":
            steps = {"type": "Sequence", "normalizers": [rules, right, SPACE_RUNS]}
            return unigram(t5, normalizer=steps, pre_tokenizer=METASPACE)
        case "t5-words":
            return unigram(t5, normalizer=rules, pre_tokenizer=WORDS)
        case "first":
            steps = {"type": "Sequence", "normalizers": [{"type": "Nmt"}, STRIP]}
            first = METASPACE | {"prepend_scheme": "first", "split": False}
            return unigram(small, normalizer=steps, pre_tokenizer=first)
        case "words":
            return unigram(small, pre_tokenizer={"type": "WhitespaceSplit"})
        case _:
            return llama(small)


@functools.cache
def both(name: str) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(written(name)), encoding="utf-8")
        return Tokenizer.from_file(path), tokenizers.Tokenizer.from_file(str(path))


NAMES = ["t5", "t5-words", "first", "words", "llama"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=250, deadline=None)
@given(text=TEXTS)
def test_ids_and_text_of_any_text(name: str, text: str) -> None:
    ours, theirs = both(name)
    expected = theirs.encode(text, add_special_tokens=False).ids

    ids = ours.encode_ordinary(text)

    assert (ids, ours.decode(ids)) == (expected, theirs.decode(expected, skip_special_tokens=False))


@pytest.mark.parametrize("name", NAMES)
def test_ids_of_the_lines_of_a_corpus(name: str) -> None:
    ours, theirs = both(name)
    text = (DATA / "text" / "jargon.txt").read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")[:1500]
    expected = [row.ids for row in theirs.encode_batch(lines, add_special_tokens=False)]

    assert [row.tolist() for row in ours.encode_batch(lines)] == expected


@pytest.mark.parametrize(
    "step", [pytest.param(37, id="every-37th"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_clusters_are_those_of_the_tokenizers_library(step: int) -> None:
    ours, theirs = both("t5")
    codes = [code for code in range(0, 0xE1000, step) if not 0xD800 <= code < 0xE000]
    texts = [text for code in codes for text in (f"\xbd{chr(code)}b", f"a{chr(code)}\u0301")]
    expected = [row.ids for row in theirs.encode_batch(texts, add_special_tokens=False)]

    assert [row.tolist() for row in ours.encode_batch(texts)] == expected


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("ab \n\u2581\xe9\u4e2d"), max_size=30))
def test_offsets_of_llama_are_those_of_the_tokenizers_library(text: str) -> None:
    ours, theirs = both("llama")
    expected = theirs.encode(text, add_special_tokens=False).offsets

    located = ours.encode_with_offsets(text)

    assert located.offsets.tolist() == [list(place) for place in expected]


# what the rules join, make longer, shorter and nothing, at the beginning of a text as well
RULED = [
    *("e\u0301", "\u1e9b\u0323", "A\u030a", "\u212b", "\u0130", "\u0344", "\ufb01", "\u2460"),
    *("\u33a5", "\ufdfa", "\xad", "\x01", "\u200b", "\r\n", "x", "the", " "),
]


@pytest.mark.parametrize("name", ["t5", "t5-words", "spiece-bpe-rules"])
@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.sampled_from(RULED + PARTS), max_size=10).map("".join))
def test_offsets_under_rules_are_those_of_the_tokenizers_library(name: str, text: str) -> None:
    _, ours, theirs = before_and_saved(name)
    expected = theirs.encode(text, add_special_tokens=False)

    located = ours.encode_with_offsets(text, add_special_tokens=False)

    assert located.ids == expected.ids
    assert located.offsets.tolist() == [list(place) for place in expected.offsets]


@pytest.mark.parametrize(
    ("text", "num_tokens"), [("e\u0301", 3), ("\u1e9b\u0323", 4)], ids=["one-mark", "two-marks"]
)
def test_joined_character_has_the_place_of_its_first(text: str, num_tokens: int) -> None:
    _, ours, theirs = before_and_saved("spiece-bpe-rules")

    offsets = ours.encode_with_offsets(text).offsets.tolist()

    assert offsets == [list(place) for place in theirs.encode(text).offsets]
    assert offsets[-num_tokens:] == [[0, 1]] * num_tokens


@pytest.mark.parametrize(
    ("text", "value"),
    [("-3.25", -3.25), ("0.1", 0.1), ("1e3", 1000.0), ("-1.5E-2", -0.015), ("2e-310", 2e-310)],
)
def test_plain_numbers_are_read_as_they_are(text: str, value: float) -> None:
    assert read_float(text) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"unk_id": None}, "'unk_id' = null, expected 0 to", id="no-unknown"),
        pytest.param({"unk_id": 99999}, "'unk_id' = 99999", id="unknown"),
        pytest.param({"vocab": [["a", -1.0], ["a", -1.0]]}, "'a' twice", id="twice"),
        pytest.param({"vocab": [["a"]]}, "piece 0 of vocab", id="score"),
        pytest.param({"byte_fallback": True}, "no token <0x00>", id="bytes"),
        pytest.param({"alpha": 0.1}, "unknown field 'alpha'", id="sampling"),
    ],
)
def test_damaged_model_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = written("t5-words")
    file["model"] |= change
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file), encoding="utf-8")

    with pytest.raises(ValueError, match=message):
        Tokenizer.from_file(path)


@functools.cache
def before_and_saved(name: str) -> tuple[Tokenizer, Tokenizer, tokenizers.Tokenizer]:
    """A tokenizer from another file, what was saved of it, and that in the library."""
    match name:
        case "spiece-bpe":
            model = parse_spiece_model(pair("bpe").data)
            ours = Tokenizer(spiece_parts(replace(model, charsmap=b"")))
        case "spiece-bpe-rules":
            ours = Tokenizer(spiece_parts(parse_spiece_model(pair("bpe").data)))
        case "spiece-bpe-spaces":
            model = parse_spiece_model(pair("bpe").data)
            spaces = replace(model, charsmap=b"", remove_extra_whitespaces=False)
            ours = Tokenizer(spiece_parts(spaces))
        case "spiece-unigram":
            texts = CORPUS.read_text(encoding="utf-8")[:150_000].split("\n")
            ours = Tokenizer(train_unigram(texts, 700, UnigramSettings(layout=T5_LAYOUT)))
        case _:
            ours, _ = both(name)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        ours.save(path)
        return ours, Tokenizer.from_file(path), tokenizers.Tokenizer.from_file(str(path))


SAVED = [*NAMES, "spiece-bpe", "spiece-bpe-spaces", "spiece-unigram"]


@pytest.mark.parametrize("name", SAVED)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_saved_tokenizer_has_the_ids_of_any_text(name: str, text: str) -> None:
    ours, again, theirs = before_and_saved(name)
    expected = ours.encode_ordinary(text)

    saved = again.encode_ordinary(text), theirs.encode(text, add_special_tokens=False).ids

    assert saved == (expected, expected)


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("corpus", ["jargon.txt", "tinyshakespeare.txt"])
def test_saved_tokenizer_has_the_ids_of_a_corpus(name: str, corpus: str) -> None:
    ours, _, theirs = before_and_saved(name)
    text = (DATA / "text" / corpus).read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")[:300]
    expected = [row.tolist() for row in ours.encode_batch(lines)]

    rows = theirs.encode_batch(lines)

    assert [row.ids for row in rows] == expected


@pytest.mark.parametrize("name", SAVED)
def test_saved_file_is_saved_again_as_it_is(name: str, tmp_path: Path) -> None:
    _, again, _ = before_and_saved(name)
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    again.save(first)

    Tokenizer.from_file(first).save(second)

    assert second.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("name", ["t5", "llama", "spiece-bpe", "spiece-unigram"])
def test_saved_tokenizer_decodes_as_before(name: str) -> None:
    ours, _, theirs = before_and_saved(name)
    ids = ours.encode_ordinary("Let us go, then; you and I.")

    text = theirs.decode(ids)

    assert text == ours.decode(ids)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("unigram-suffix", "treat_whitespace_as_suffix", id="suffix"),
        pytest.param("bpe-kept", "'<sep>' is never split|pieces with spaces", id="kept"),
        pytest.param("bpe-unknown", "without byte_fallback", id="unknown"),
    ],
)
def test_what_tokenizer_json_cannot_say_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        pair(name).ours.save(tmp_path / "tokenizer.json")


@functools.cache
def saved_t5() -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """T5's .model as tokenizer.json, here and in the library."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        Tokenizer.from_file(T5_PATH).save(path)
        return Tokenizer.from_file(path), tokenizers.Tokenizer.from_file(str(path))


@settings(max_examples=200)
@given(text=TEXTS)
def test_saved_charsmap_does_in_tokenizers_what_it_does_here(text: str) -> None:
    again, theirs = saved_t5()

    assert again.encode(text, allowed_special="all") == theirs.encode(text).ids


@pytest.mark.parametrize("corpus", ["kjv-bible.txt", "tinyshakespeare.txt", "devil.txt"])
def test_saved_t5_has_the_ids_of_sentencepiece(corpus: str) -> None:
    lines = (DATA / "text" / corpus).read_text(encoding="utf-8", errors="replace").split("\n")
    lines = [*lines[:1500], "\uff21\uff22\uff23 \u00bd \ufb01n \u2460  x\u3000\u00a0y\t z "]

    rows = saved_t5()[1].encode_batch(lines)

    assert [row.ids for row in rows] == pair("t5").theirs.encode(lines)


@settings(max_examples=300, deadline=None)
@given(text=st.floats(min_value=-30, max_value=30).filter(lambda x: abs(x) > 1e-6).map(repr))
def test_numbers_that_were_read_are_written_so_that_they_are_read_again(text: str) -> None:
    value = read_float(text)

    assert read_float(repr(written_float(value))) == value
