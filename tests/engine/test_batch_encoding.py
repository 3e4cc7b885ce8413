"""Called like a tokenizer of transformers, it gives the same columns."""

import dataclasses
import functools
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.engine.tokenizer_oracles import standard_library_texts
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.truncation import Side

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
ROLES = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
CLS, SEP = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [CLS, {"Sequence": {"id": "A", "type_id": 0}}, SEP],
    "pair": [
        CLS,
        {"Sequence": {"id": "A", "type_id": 0}},
        SEP,
        {"Sequence": {"id": "B", "type_id": 1}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
    ],
    "special_tokens": {
        token: {"id": token, "ids": [SPECIAL.index(token)], "tokens": [token]}
        for token in ("[CLS]", "[SEP]")
    },
}
TEXTS = [
    "def f(x):",
    "",
    "a [MASK] in the text",
    "class A:\n    x = 1\n    y = \u4e2d\u6587 \U0001f600",
    "z" * 40,
]
PAIRS = ["import os", "return x + 1 if x else None", "", "short", "y " * 30]


@functools.cache
def both() -> tuple[Tokenizer, Any]:
    """Ours and that of transformers, from one folder."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        trained = Tokenizer.train(standard_library_texts(10), 600, special_tokens=SPECIAL)
        trained.save(folder / "tokenizer.json")
        document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        document["post_processor"] = TEMPLATE
        (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
        config = ROLES | {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        theirs = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            model_input_names=config["model_input_names"],
            **ROLES,
        )
        return Tokenizer.from_pretrained(folder), theirs


def plain(columns: Any) -> dict[str, Any]:
    return {name: columns[name] for name in columns}


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no-template": {"add_special_tokens": False},
    "padded": {"padding": True},
    "padded-to-multiple": {"padding": "longest", "pad_to_multiple_of": 8},
    "padded-to-length": {"padding": "max_length", "max_length": 64},
    "padded-left": {"padding": True, "padding_side": "left"},
    "cut": {"truncation": True, "max_length": 9},
    "cut-and-padded": {"truncation": True, "max_length": 9, "padding": "max_length"},
    "cut-to-template": {"truncation": True, "max_length": 3},
    "all-columns": {"return_special_tokens_mask": True, "return_length": True, "padding": True},
    "few-columns": {"return_attention_mask": False, "return_token_type_ids": False},
    "plain-special": {"split_special_tokens": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_texts_have_the_columns_of_transformers(options: dict[str, Any]) -> None:
    ours, theirs = both()

    assert plain(ours(TEXTS, **options)) == plain(theirs(TEXTS, **options))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_pairs_have_the_columns_of_transformers(options: dict[str, Any]) -> None:
    ours, theirs = both()

    assert plain(ours(TEXTS, PAIRS, **options)) == plain(theirs(TEXTS, PAIRS, **options))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("stride", [0, 3])
def test_overflow_makes_the_rows_of_transformers(stride: int, side: Side) -> None:
    ours, theirs = both()
    options = {"truncation": True, "max_length": 10, "return_overflowing_tokens": True}
    copy = Tokenizer(ours.parts, dataclasses.replace(ours.config, truncation_side=side))
    theirs.truncation_side = side

    found = copy(TEXTS, stride=stride, **options)
    expected = theirs(TEXTS, stride=stride, **options)
    theirs.truncation_side = "right"

    assert plain(found) == plain(expected)


@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
def test_overflow_of_one_text_of_a_pair(strategy: str) -> None:
    ours, theirs = both()
    texts = ("a b c d e f g h i", "1 2 3 4 5 6 7 8 9")
    options = {"truncation": strategy, "max_length": 22, "return_overflowing_tokens": True}

    assert plain(ours([texts[0]], [texts[1]], **options)) == plain(
        theirs([texts[0]], [texts[1]], **options)
    )


@given(lengths=st.tuples(st.integers(0, 40), st.integers(1, 40)), max_length=st.integers(3, 50))
def test_both_texts_of_a_pair_are_cut_alike(lengths: tuple[int, int], max_length: int) -> None:
    ours, theirs = both()
    texts = ["a " * lengths[0], "b " * lengths[1]]
    options = {"truncation": "longest_first", "max_length": max_length}

    assert plain(ours(*texts, **options)) == plain(theirs(*texts, **options))


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_one_text_has_no_axis_of_the_batch(text: str) -> None:
    ours, theirs = both()

    assert plain(ours(text)) == plain(theirs(text))


def test_places_of_tokens_are_those_of_transformers() -> None:
    ours, theirs = both()

    found = ours(TEXTS, PAIRS, return_offsets_mapping=True, padding=True)
    expected = theirs(TEXTS, PAIRS, return_offsets_mapping=True, padding=True)

    assert plain(found) == plain(expected)


@pytest.mark.parametrize(("kind", "expected"), [("pt", torch.Tensor), ("np", np.ndarray)])
def test_tensors_hold_the_rows(kind: str, expected: type) -> None:
    ours, theirs = both()

    found = ours(TEXTS, padding=True, return_tensors=kind)

    assert isinstance(found.input_ids, expected)
    assert found.input_ids.tolist() == theirs(TEXTS, padding=True).input_ids
    assert found.to("cpu").attention_mask.tolist() == found["attention_mask"].tolist()


BAD_CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "unknown option": ((TEXTS,), {"paddin": True}, "'paddin' is not an option; expected some of"),
    "ragged tensor": ((TEXTS,), {"return_tensors": "pt"}, "differ in length; pass padding=True"),
    "unknown tensor": ((["a"],), {"return_tensors": "tf"}, "return_tensors is 'tf'"),
    "no length": ((TEXTS,), {"padding": "max_length"}, "no max_length is given"),
    "too short": ((TEXTS,), {"truncation": True, "max_length": 1}, "the 2 special tokens of a row"),
    "stride": (
        (TEXTS,),
        {"truncation": True, "max_length": 5, "stride": 3, "return_overflowing_tokens": True},
        "stride is 3; expected less than the 3 tokens",
    ),
    "negative stride": ((TEXTS,), {"stride": -1}, "stride is -1; expected at least 0"),
    "negative length": ((TEXTS,), {"max_length": -5}, "max_length is -5; expected at least 0"),
    "length of text": ((TEXTS,), {"max_length": "8"}, "max_length is '8'; expected an integer"),
    "multiple": ((TEXTS,), {"pad_to_multiple_of": -8}, "pad_to_multiple_of is -8; expected at"),
    "padding": ((TEXTS,), {"padding": "long"}, "padding is 'long'; expected one of"),
    "padding side": ((TEXTS,), {"padding_side": "top"}, "padding_side is 'top'; expected one of"),
    "strategy": ((TEXTS,), {"truncation": "middle", "max_length": 5}, "truncation is 'middle'"),
    "text too short to cut": (
        ("a", "b " * 30),
        {"truncation": "only_first", "max_length": 9},
        "the first text has 1 tokens, but",
    ),
    "no second": (("a b c",), {"truncation": "only_second", "max_length": 4}, "no second text"),
    "uneven": ((TEXTS, PAIRS[:2]), {}, "5 texts and 2 pairs"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call_is_refused_in_one_line(name: str) -> None:
    arguments, options, message = BAD_CALLS[name]

    with pytest.raises((ValueError, TypeError), match=rf"^[^\n]*{message}[^\n]*$"):
        both()[0](*arguments, **options)
