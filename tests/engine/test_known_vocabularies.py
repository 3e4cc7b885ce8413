"""Ids of well-known vocabularies: corpora and random texts, each with the oracle of its file."""

from pathlib import Path

import pytest

from tests.engine.known_vocabularies import JSON, RANKED, both
from tests.engine.pattern_texts import fuzz_texts, multilingual_text
from tests.engine.tokenizer_oracles import DATA, standard_library_texts

slow = pytest.mark.slow

NAMES = [
    pytest.param("p50k_base"),
    *(pytest.param(name, marks=slow) for name in (*RANKED, *JSON) if name != "p50k_base"),
]


def corpus(name: str, folder: Path = DATA / "text") -> str:
    """Text of about a megabyte in English, in Python, and in every script."""
    if name == "code":
        return "".join(standard_library_texts(50))[:1_000_000]
    english = folder / "wikitext2-valid.txt"
    if not english.is_file():
        pytest.skip(f"{english} is absent; WELDLM_TEST_DATA names the folder")
    text = english.read_text(encoding="utf-8", errors="replace")
    return text if name == "english" else multilingual_text() + text[:100_000]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["english", "code", "multilingual"])
def test_corpora_have_the_ids_of_the_oracle(name: str, text: str) -> None:
    encode, expected = both(name)

    assert encode(corpus(text)) == expected(corpus(text))


@pytest.mark.parametrize("name", NAMES)
def test_random_texts_have_the_ids_of_the_oracle(name: str) -> None:
    encode, expected = both(name)
    texts = fuzz_texts(2_000 if name == "p50k_base" else 20_000)

    assert [text for text in texts if encode(text) != expected(text)] == []


@slow
@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("letters", ["a", " ", "\n", "=", "\u4e2d", "aB", "\n ", "0"])
def test_long_runs_have_the_ids_of_tiktoken(name: str, letters: str) -> None:
    encode, expected = both(name)
    text = letters * (200_000 // len(letters))

    assert encode(text) == expected(text)
