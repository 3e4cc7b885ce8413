"""Near duplicates that were planted are found, and hardly anything else."""

from pathlib import Path

import numpy as np
import pytest

from tests.engine.prepared_texts import prepare
from weldlm.data.pipeline.near_duplicates import find_near, rows_of_band, sign_texts

pytest.importorskip("rensa", reason="the extra `data`")

SIMILARITY = 0.8


def runs_of(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[begin : begin + 5]) for begin in range(len(words) - 4)}


def jaccard(first: str, second: str) -> float:
    a, b = runs_of(first), runs_of(second)
    return len(a & b) / len(a | b)


def written(draws: np.random.Generator, size: int) -> list[str]:
    """Words as frequent as Zipf says."""
    return [f"w{rank}" for rank in np.minimum(draws.zipf(1.3, size), 5_000)]


def with_changes(draws: np.random.Generator, words: list[str], share: float) -> list[str]:
    """Some words give way to others, are left out, or are new."""
    changed: list[str] = []
    for word in words:
        kind = draws.random() / share
        if kind < 0.4:
            changed.append("other")
        elif kind < 0.7:
            changed += ["new", word]
        elif kind >= 1:
            changed.append(word)
    return changed


@pytest.fixture(name="corpus", scope="module")
def corpus_with_planted_texts() -> tuple[list[str], set[int]]:
    """Texts, and the places of those that were made of earlier ones by few changes.

    Others were made by many changes, and are texts of their own.
    """
    draws = np.random.default_rng(0)
    originals = [written(draws, int(size)) for size in draws.integers(40, 400, 500)]
    near = [with_changes(draws, words, 0.008) for words in originals[:150] * 2]
    apart = [with_changes(draws, words, 0.12) for words in originals[150:350]]
    texts = [" ".join(words) for words in [*originals, *near, *apart]]
    return texts, set(range(500, 800))


def test_planted_near_duplicates_are_found(corpus: tuple[list[str], set[int]]) -> None:
    texts, planted = corpus

    originals = find_near(sign_texts(texts), np.ones(len(texts), np.bool_), SIMILARITY)

    found = set(np.flatnonzero(originals != np.arange(len(texts))).tolist())
    # what a draw made less similar than was asked for is no near duplicate of it
    alike = {
        place
        for place in planted
        if jaccard(texts[place], texts[(place - 500) % 150]) >= SIMILARITY
    }
    assert len(alike) > 0.8 * len(planted)
    assert len(found & alike) / len(alike) >= 0.95
    assert len(found & planted) / len(found) >= 0.95
    assert all(originals[place] == (place - 500) % 150 for place in found & planted)


def test_signatures_estimate_the_share_of_common_runs(corpus: tuple[list[str], set[int]]) -> None:
    texts, _ = corpus
    pairs = [(place - 500) % 150 for place in range(500, 800)]
    signatures = sign_texts(texts)

    estimates = (signatures[500:800] == signatures[pairs]).mean(axis=1)

    exact = [jaccard(texts[500 + index], texts[pair]) for index, pair in enumerate(pairs)]
    # the standard deviation of a mean of 128 draws is at most 1 / sqrt(4 x 128) = 0.044
    assert np.abs(estimates - exact).max() < 4 * 0.044
    assert abs(np.mean(estimates - exact)) < 4 * 0.044 / np.sqrt(300)


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_find_pairs_as_similar_as_asked(similarity: float) -> None:
    rows = rows_of_band(similarity)

    assert 1 - (1 - similarity**rows) ** (128 // rows) >= 0.99
    assert rows == 128 or 1 - (1 - similarity ** (rows + 1)) ** (128 // (rows + 1)) < 0.99


def test_texts_without_words_resemble_nothing() -> None:
    texts = ["!!!", "???", "one two", "one two", "", "three"]

    originals = find_near(sign_texts(texts), np.ones(len(texts), np.bool_), SIMILARITY)

    assert originals.tolist() == [0, 1, 2, 2, 4, 5]


def test_corpus_keeps_the_first_of_those_that_resemble_one_another(tmp_path: Path) -> None:
    draws = np.random.default_rng(1)
    (tmp_path / "texts").mkdir()
    for number in range(30):
        words = written(draws, 200)
        for name, text in (("a", words), ("b", [*words, "more"]), ("c", words)):
            (tmp_path / "texts" / f"{number:02d}{name}.txt").write_text(" ".join(text))

    report = prepare(tmp_path, duplicates="near")

    steps = report["steps"]
    assert (steps["exact_duplicates"]["removed"], steps["near_duplicates"]["removed"]) == (30, 30)
    assert sum(split["documents"] for split in report["splits"].values()) == 30
    sample = steps["near_duplicates"]["samples"][0]
    assert sample["name"].replace("b.txt", "a.txt") == sample["instead"]
