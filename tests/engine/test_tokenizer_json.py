"""tokenizer.json: what is read, what is written, what is refused."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from tests.engine.tokenizer_oracles import (
    bpe_of_tokenizers,
    gpt2,
    gpt2_of_tokenizers,
    merges_of,
    needs_gpt2,
    small,
    standard_library_texts,
)
from weldlm.tokenizer import Tokenizer

Document = dict[str, Any]
NEUTRAL_TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}


def document() -> Document:
    """A small file as the tokenizers library writes it."""
    tokenizer = bpe_of_tokenizers()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(standard_library_texts(2), trainer)
    written: Document = json.loads(tokenizer.to_str())
    return written


DOCUMENT = document()


def changed(path: str, value: object) -> Document:
    """The small file with one field, named by its keys, replaced."""
    copied: Document = json.loads(json.dumps(DOCUMENT))
    *sections, field = path.split("/")
    section = copied
    for name in sections:
        section = section[name]
    section[field] = value
    return copied


def without(path: str) -> Document:
    copied = changed(path, None)
    *sections, field = path.split("/")
    section = copied
    for name in sections:
        section = section[name]
    del section[field]
    return copied


def added(**fields: object) -> Document:
    """The small file with one more added token."""
    row = {
        "id": 300,
        "content": "<x>",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return changed("added_tokens", [*DOCUMENT["added_tokens"], row | fields])


def vocab_with(**ids: object) -> Document:
    return changed("model/vocab", DOCUMENT["model"]["vocab"] | ids)


def written(content: Document, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def first_lines_as_text(content: Document) -> Document:
    lines = [" ".join(pair) for pair in content["model"]["merges"]]
    return changed("model/merges", ["#version: 0.2", *lines])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(DOCUMENT, id="as-written"),
        pytest.param(first_lines_as_text(DOCUMENT), id="merges-as-lines"),
        pytest.param(without("model/type"), id="no-model-type"),
        pytest.param(without("added_tokens"), id="no-added-tokens"),
        pytest.param(changed("post_processor", NEUTRAL_TEMPLATE), id="template-that-adds-nothing"),
        pytest.param(changed("model/continuing_subword_prefix", ""), id="empty-prefix"),
        pytest.param(changed("model/unk_token", "<|endoftext|>"), id="unknown-token"),
        pytest.param(changed("model/dropout", 0.0), id="dropout-0"),
        pytest.param(
            changed("model/merges", [*DOCUMENT["model"]["merges"], DOCUMENT["model"]["merges"][0]]),
            id="merge-given-twice",
        ),
        pytest.param(added(), id="special-token-after-vocab"),
        pytest.param(added(special=False, normalized=True), id="ordinary-added-token"),
        pytest.param(added(content="<|endoftext|>x", normalized=True), id="second-pass"),
        pytest.param(added(content=" \u4e2d "), id="added-token-that-is-not-ascii"),
        pytest.param(added(lstrip=True), id="takes-space-before"),
        pytest.param(added(rstrip=True), id="takes-space-behind"),
        pytest.param(added(lstrip=True, rstrip=True, normalized=True), id="takes-space-around"),
        pytest.param(added(single_word=True), id="single-word"),
    ],
)
def test_file_encodes_as_in_tokenizers(content: Document, tmp_path: Path) -> None:
    path = written(content, tmp_path)
    text = (
        standard_library_texts(4)[3]
        + "<x> \u4e2d <|endoftext|>x <x><x \n<x>\t\u3000<x>  a<x> <x>_ \u00e9<x>"
    )

    ids = Tokenizer.from_file(path).encode(text, allowed_special="all")

    assert ids == tokenizers.Tokenizer.from_file(str(path)).encode(text).ids


def test_ordinary_added_token_matches_without_being_allowed(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(written(added(special=False), tmp_path))

    assert tokenizer.encode("<x>") == tokenizer.encode_ordinary("<x>") == [300]
    assert "<x>" not in tokenizer.special_tokens


@needs_gpt2
def test_saved_gpt2_encodes_and_decodes_alike_in_tokenizers(tmp_path: Path) -> None:
    text = "".join(standard_library_texts(8)) + " \u4e2d\u6587 \U0001f600<|endoftext|>"
    gpt2().save(tmp_path / "tokenizer.json")

    saved = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    ids = saved.encode(text).ids
    assert ids == gpt2_of_tokenizers().encode(text).ids
    assert saved.decode(ids, skip_special_tokens=False) == text
    assert saved.get_vocab() == gpt2_of_tokenizers().get_vocab()


def test_saved_file_reads_back_equal(tmp_path: Path) -> None:
    small().save(tmp_path / "tokenizer.json")

    read = Tokenizer.from_pretrained(tmp_path).parts

    assert read.tokens == small().parts.tokens
    assert merges_of(read) == merges_of(small().parts)
    assert read.added_tokens == small().parts.added_tokens


def test_added_tokens_survive_saving(tmp_path: Path) -> None:
    path = written(added(special=False, normalized=True, content=" \u4e2d "), tmp_path)
    read = Tokenizer.from_file(path)

    read.save(tmp_path / "saved.json")

    saved = Tokenizer.from_file(tmp_path / "saved.json")
    assert saved.parts.added_tokens == read.parts.added_tokens


def test_failed_save_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("precious")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, f"no space for {descriptor}")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        small().save(path)

    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer; expected tokenizer\.json, "):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"version": \xff}', "invalid UTF-8 at byte 12"),
        (b'{"version":\n "1.0",', r"invalid JSON at line 2, column 8: .*; get the file again"),
        (b"", "the file is empty; expected a tokenizer"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", r"tokenizer\.json is \[\], expected an object"),
        (b'{"model": {"a": 1, "a": 2}}', "the key 'a' is given twice"),
    ],
    ids=["utf-8", "truncated", "empty", "nested", "list", "key-twice"],
)
def test_damaged_file_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)

    with pytest.raises(ValueError, match=message):
        Tokenizer.from_pretrained(tmp_path)


BYTE_LEVEL = DOCUMENT["pre_tokenizer"]
UNSUPPORTED: dict[str, tuple[Document, str]] = {
    "version": (changed("version", "2.0"), "'version' = \"2.0\", which is not supported"),
    "normalizer": (
        changed("normalizer", {"type": "Zip"}),
        "normalizer has 'type' = \"Zip\", which is not supported",
    ),
    "truncation": (changed("truncation", {"max_length": 8}), "truncation has no 'strategy'"),
    "padding": (changed("padding", {"strategy": "Longest"}), "padding has no 'direction'"),
    "pre-tokenizer": (
        changed("pre_tokenizer", {"type": "UnicodeScripts"}),
        "pre_tokenizer has 'type' = \"UnicodeScripts\", which is not supported",
    ),
    "no-pre-tokenizer": (changed("pre_tokenizer", None), "pre_tokenizer is null"),
    "decoder": (
        changed("decoder", DOCUMENT["decoder"] | {"type": "BPEDecoder"}),
        "'type' = \"BPEDecoder\"",
    ),
    "template": (
        changed("post_processor", NEUTRAL_TEMPLATE | {"single": [{"SpecialToken": {}}]}),
        "post_processor has 'single' with ",
    ),
    "post-processor": (
        changed("post_processor", {"type": "Zip"}),
        "post_processor is an object of type 'Zip', which is not supported",
    ),
    "model-type": (changed("model/type", "WordLevel"), "model has 'type' = \"WordLevel\""),
    "dropout": (changed("model/dropout", 0.1), "model has 'dropout' = 0.1"),
    "byte-fallback": (
        changed("model/byte_fallback", True),
        "byte_fallback is true, but vocab has no token <0x00>",
    ),
    "prefix": (changed("model/continuing_subword_prefix", "##"), 'prefix\' = "##"'),
    "suffix": (changed("model/end_of_word_suffix", "</w>"), 'suffix\' = "</w>"'),
    "unknown-field": (changed("model/shuffle", 3), "unknown field 'shuffle' = 3"),
    "lstrip": (added(lstrip=1), "added_tokens has 'lstrip' = 1"),
    "single-word": (added(single_word=None), "'single_word' = null"),
}
DAMAGED: dict[str, tuple[Document, str]] = {
    "no-model": (without("model"), r"tokenizer\.json has no 'model'"),
    "no-vocab": (without("model/vocab"), "model has no 'vocab'"),
    "no-merges": (without("model/merges"), "model has no 'merges'"),
    "vocab-list": (changed("model/vocab", []), r"vocab is \[\], expected an object"),
    "id-out-of-range": (vocab_with(zz=3000), "token 'zz' the id 3000, expected 0 to 1626"),
    "id-huge": (vocab_with(zz=10**30), "token 'zz' the id 1000"),
    "id-negative": (vocab_with(zz=-1), "token 'zz' the id -1"),
    "id-float": (vocab_with(zz=1.0), "token 'zz' the id 1.0"),
    "id-bool": (vocab_with(zz=True), "token 'zz' the id true"),
    "id-twice": (vocab_with(zz=7), "vocab gives the id 7 to .* and 'zz'"),
    "not-byte-level": (
        vocab_with(**{"\u4e2d": 300}),
        "token '\u4e2d' is not spelled in the characters",
    ),
    "missing-byte": (
        {
            **DOCUMENT,
            "added_tokens": [],
            "model": {"vocab": {"a": 0}, "merges": [], "unk_token": "a"},
        },
        "no token stands for the byte 0;",
    ),
    "merges-object": (changed("model/merges", {}), r"merges is \{\}, expected a list"),
    "merge-unknown": (
        changed("model/merges", [["a", "b"], ["a", "zzz"]]),
        "vocab has no token 'ab'",
    ),
    "merge-of-three": (changed("model/merges", ["a b c"]), 'merge 0 is "a b c": expected'),
    "merge-of-numbers": (changed("model/merges", [[1, 2]]), r"merge 0 is \[1, 2\]: expected"),
    "merge-object": (changed("model/merges", [{"a": 1, "b": 2}]), "merge 0 is .*: expected"),
    "merge-null": (changed("model/merges", [None]), "merge 0 is null: expected"),
    "merge-with-itself": (changed("model/merges", [["", "a"]]), "vocab has no token ''"),
    "added-tokens-object": (changed("added_tokens", {}), r"added_tokens is \{\}, expected a list"),
    "added-token-str": (changed("added_tokens", ["x"]), 'added_tokens is "x", expected an object'),
    "added-id": (added(id=301), "added token '<x>' has the id 301, expected 300"),
    "added-id-in-vocab": (added(content="a", id=300), "expected 65: its id in vocab"),
    "added-empty": (added(content=""), "added token 300 has 0 bytes"),
    "added-long": (added(content="x" * 257), "added token 300 has 257 bytes"),
    "added-surrogate": (added(content="\ud800x"), "holds a lone surrogate"),
    "added-ambiguous": (added(content="\xe9\xe9"), "also a spelling of the bytes"),
    "added-field-missing": (
        changed("added_tokens", [{"id": 300, "content": "<x>"}]),
        "added_tokens has no 'lstrip'",
    ),
    "added-special-number": (added(special=1), "added_tokens has 'special' = 1, which is not"),
    "added-number": (added(content=3), "added token 3 has the id 300, expected a string"),
}


@pytest.mark.parametrize(("content", "message"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_feature_is_refused_by_name(
    content: Document, message: str, tmp_path: Path
) -> None:
    path = written(content, tmp_path)

    with pytest.raises(ValueError, match=f"{path}: .*{message}"):
        Tokenizer.from_file(path)


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_wrong_content_is_refused_with_its_place(
    content: Document, message: str, tmp_path: Path
) -> None:
    path = written(content, tmp_path)

    with pytest.raises(ValueError, match=f"{path}: .*{message}"):
        Tokenizer.from_file(path)


@pytest.mark.parametrize(
    "content", [value for value, _ in (UNSUPPORTED | DAMAGED).values()], ids=UNSUPPORTED | DAMAGED
)
def test_refusal_is_one_line(content: Document, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tokenizer") as refusal:
        Tokenizer.from_file(written(content, tmp_path))

    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        *(("pre_tokenizer", kind) for kind in ("Whitespace", "Punctuation", "UnicodeScripts")),
        *(("pre_tokenizer", kind) for kind in ("CharDelimiterSplit", "Split", "Digits")),
        *(("decoder", kind) for kind in ("BPEDecoder", "CTC", "Fuse", "Strip", "ByteFallback")),
        *(("normalizer", kind) for kind in ("ByteLevel", "Append")),
        *(("model", kind) for kind in ("WordLevel", "SentencePiece")),
    ],
)
def test_section_of_another_type_is_refused_by_name(
    section: str, kind: str, tmp_path: Path
) -> None:
    path = written(changed(section, {"type": kind}), tmp_path)

    with pytest.raises(
        ValueError, match=f"{path}: {section} has 'type' = \"{kind}\", which is not supported"
    ):
        Tokenizer.from_file(path)
