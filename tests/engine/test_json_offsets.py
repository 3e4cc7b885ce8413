"""Prefix spaces and trimmed offsets of byte-level BPE against the tokenizers library."""

import functools
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given, settings
from transformers import PreTrainedTokenizerFast

from tests.engine.tokenizer_files import content
from weldlm.tokenizer import Tokenizer

Row = tuple[int, int, int]

TEXTS = [
    "the thesis",
    " the  thesis \n there  ",
    "  the",
    "",
    " ",
    "   ",
    "\tthe\u3000thesis\xa0x",
    "the <x> the<x>  thesis <x>",
    "<x>the",
    "\u4e2d\u6587 \xe9t\xe9 12",
]


def byte_level(*, prefix: bool, trims: bool = True) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": prefix,
        "trim_offsets": trims,
        "use_regex": True,
    }


def roberta(*, prefix: bool, trims: bool) -> dict[str, Any]:
    return {
        "type": "RobertaProcessing",
        "cls": ["<|endoftext|>", 0],
        "sep": ["the", 258],
        "add_prefix_space": prefix,
        "trim_offsets": trims,
    }


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {
        "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
    },
}
PROCESSORS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "trims": byte_level(prefix=False),
    "trims-but-the-prefix": byte_level(prefix=True),
    "trims-nothing": byte_level(prefix=True, trims=False),
    "roberta": roberta(prefix=True, trims=True),
    "roberta-without-prefix": roberta(prefix=False, trims=True),
    "roberta-trims-nothing": roberta(prefix=False, trims=False),
    "template": {"type": "Sequence", "processors": [byte_level(prefix=True), TEMPLATE]},
}


def document(prefix: bool, processor: str) -> str:
    fields = json.loads(content("json-bpe"))
    options = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    fields["added_tokens"].append({"id": 290, "content": "<x>", "special": False} | options)
    fields |= {
        "pre_tokenizer": byte_level(prefix=prefix),
        "post_processor": PROCESSORS[processor],
    }
    return json.dumps(fields)


def located(tokenizer: Tokenizer, text: str) -> list[Row]:
    found = tokenizer.encode_with_offsets(text)
    return [(i, *place) for i, place in zip(found.ids, found.offsets.tolist(), strict=True)]


def located_by_tokenizers(tokenizer: tokenizers.Tokenizer, text: str) -> list[Row]:
    found = tokenizer.encode(text)
    return [(i, *place) for i, place in zip(found.ids, found.offsets, strict=True)]


@pytest.mark.parametrize("prefix", [False, True], ids=["plain", "prefix"])
@pytest.mark.parametrize("processor", PROCESSORS)
def test_ids_and_offsets_are_those_of_tokenizers(
    prefix: bool, processor: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(document(prefix, processor))
    oracle = tokenizers.Tokenizer.from_file(str(path))
    tokenizer = Tokenizer.from_file(path)

    found = [located(tokenizer, text) for text in TEXTS]

    assert found == [located_by_tokenizers(oracle, text) for text in TEXTS]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("processor", PROCESSORS)
def test_offsets_of_windows_are_those_of_transformers(
    processor: str, side: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(document(True, processor))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"truncation_side": side}))
    oracle = PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_file(str(path)), truncation_side=side
    )
    options: dict[str, Any] = {"truncation": True, "max_length": 5, "stride": 1}
    options |= {"return_overflowing_tokens": True, "return_offsets_mapping": True}

    found = Tokenizer.from_pretrained(tmp_path)(TEXTS, **options)

    expected = oracle(TEXTS, **options)
    assert found.input_ids == expected["input_ids"]
    assert found.offset_mapping == expected["offset_mapping"]


def test_truncated_text_keeps_the_spaces_of_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(document(False, "trims-but-the-prefix"))
    tokenizer = Tokenizer.from_file(path)
    ids = tokenizer.encode_ordinary("   ")

    assert tokenizer.truncate("   ", 2) == tokenizer.decode(ids[:2])


@pytest.mark.parametrize(
    "section",
    [
        {"type": "Sequence", "pretokenizers": [byte_level(prefix=True)]},
        byte_level(prefix=True) | {"use_regex": False},
    ],
    ids=["sequence-of-one", "no-regex"],
)
def test_prefix_space_of_other_sections_is_that_of_tokenizers(
    section: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(document(True, "trims")) | {"pre_tokenizer": section}))
    oracle = tokenizers.Tokenizer.from_file(str(path))
    tokenizer = Tokenizer.from_file(path)

    found = [located(tokenizer, text) for text in TEXTS]

    assert found == [located_by_tokenizers(oracle, text) for text in TEXTS]


@pytest.fixture(name="trimming", scope="module")
def trimming_tokenizers(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    path = tmp_path_factory.mktemp("trimming") / "tokenizer.json"
    path.write_text(document(True, "template"))
    return Tokenizer.from_file(path), tokenizers.Tokenizer.from_file(str(path))


@settings(max_examples=200)
@given(text=st.lists(st.sampled_from([*TEXTS, " ", "\n", "a", "\u0301"]), max_size=8).map("".join))
def test_any_text_is_trimmed_as_in_tokenizers(
    text: str, trimming: tuple[Tokenizer, tokenizers.Tokenizer]
) -> None:
    tokenizer, oracle = trimming

    assert located(tokenizer, text) == located_by_tokenizers(oracle, text)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_saved_file_has_the_same_offsets_in_tokenizers(processor: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(document(True, processor))
    expected = tokenizers.Tokenizer.from_file(str(path))

    Tokenizer.from_file(path).save(tmp_path / "saved.json")

    saved = tokenizers.Tokenizer.from_file(str(tmp_path / "saved.json"))
    rows = [located_by_tokenizers(saved, text) for text in TEXTS]
    assert rows == [located_by_tokenizers(expected, text) for text in TEXTS]


def test_trimming_twice_is_refused(tmp_path: Path) -> None:
    both = [byte_level(prefix=True), byte_level(prefix=False)]
    fields = json.loads(document(True, "none"))
    fields["post_processor"] = {"type": "Sequence", "processors": both}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(fields))

    with pytest.raises(ValueError, match="post_processor trims offsets more than once"):
        Tokenizer.from_file(path)


REPLACED = {
    "shorter": ("ab", "c"),
    "much-shorter": ("abc", "xy"),
    "longer": ("a", "bcd"),
    "as-long": ("ab", "cd"),
    "wider": ("ab", "\xe9"),
    "of-two-bytes": ("\xe9a", "b"),
    "spaces": ("  ", " "),
}


@functools.cache
def both_replacing(name: str) -> tuple[Tokenizer, Any]:
    pattern, text = REPLACED[name]
    document = json.loads(content("json-llama"))
    steps = [{"type": "Prepend", "prepend": "\u2581"}]
    steps.append({"type": "Replace", "pattern": {"String": pattern}, "content": text})
    document["normalizer"] = {"type": "Sequence", "normalizers": steps}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(document))
        return Tokenizer.from_file(path), tokenizers.Tokenizer.from_file(str(path))


@pytest.mark.parametrize("name", REPLACED)
@settings(max_examples=50)
@given(parts=st.lists(st.sampled_from(["a", "b", "c", "\xe9", " ", "the", "ab", "abc", "\u4e2d"])))
def test_offsets_of_replaced_text_are_those_of_tokenizers(name: str, parts: list[str]) -> None:
    ours, theirs = both_replacing(name)
    text = "".join(parts)

    found = ours.encode_with_offsets(text, add_special_tokens=False)
    expected = theirs.encode(text, add_special_tokens=False)

    assert found.ids == expected.ids
    assert [tuple(row) for row in found.offsets.tolist()] == expected.offsets


def test_replacement_over_a_border_is_not_trusted(tmp_path: Path) -> None:
    document = json.loads(content("json-llama"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": True}
    document["added_tokens"] = [{"id": 1, "content": "<s>", "normalized": True, **flags}]
    document["normalizer"] = {"type": "Replace", "pattern": {"String": "ab"}, "content": "<s>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    ours = Tokenizer.from_file(tmp_path / "tokenizer.json")

    assert ours.encode_segments([("ab", True)]) == [1]
    assert 1 not in ours.encode_segments([("a", False), ("b", True)])
