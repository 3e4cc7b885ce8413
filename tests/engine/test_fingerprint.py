"""Tokenizers that could give other ids have other fingerprints."""

import dataclasses
from pathlib import Path

import pytest

from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.bpe import Pattern
from weldlm.tokenizer.fingerprint import fingerprint
from weldlm.tokenizer.parts import AddedToken

TEXT = "the cat sat on the mat with the hat " * 9


@pytest.fixture(scope="module", name="tokenizer")
def learned() -> Tokenizer:
    return Tokenizer.train([TEXT], 262)


def test_equal_tokenizers_have_one_fingerprint(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.train([TEXT], 262)
    first = Tokenizer.from_file(tmp_path / "tokenizer.json")
    second = Tokenizer.from_file(tmp_path / "tokenizer.json")

    assert fingerprint(again) == fingerprint(tokenizer)
    assert fingerprint(first) == fingerprint(second)


def test_other_merges_have_another_fingerprint(tokenizer: Tokenizer) -> None:
    merges = tokenizer.parts.model.merges.copy()  # type: ignore[attr-defined]  # of BPE
    merges[-1] = merges[0]
    model = dataclasses.replace(tokenizer.parts.model, merges=merges)  # type: ignore[type-var]
    other = Tokenizer(dataclasses.replace(tokenizer.parts, model=model))

    assert fingerprint(other) != fingerprint(tokenizer)


CHANGES = {
    "pattern": {"pretokenizer": Pattern("llama3")},
    "no-pattern": {"pretokenizer": None},
    "flag": {"added_tokens": (AddedToken("<|endoftext|>", 0, is_special=False),)},
    "no-special-token": {"added_tokens": ()},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_other_rules_have_another_fingerprint(
    tokenizer: Tokenizer, changes: dict[str, object]
) -> None:
    other = Tokenizer(dataclasses.replace(tokenizer.parts, **changes))

    assert fingerprint(other) != fingerprint(tokenizer)


def test_other_tokens_have_another_fingerprint(tokenizer: Tokenizer) -> None:
    assert fingerprint(Tokenizer.train([TEXT], 261)) != fingerprint(tokenizer)
