"""A run's data is made once, and then it is what it was made from or it is refused."""

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weldlm.data import TokenShards
from weldlm.data.corpus import Document
from weldlm.data.prepare import Corpus, hold_out, prepare_corpus
from weldlm.sealed_folder import lock_folder
from weldlm.tokenizer import Tokenizer

DOCUMENTS = [Document(f"{number}.txt", f"text number {number}\n" * 9) for number in range(40)]


def learn(texts: Iterable[str]) -> Tokenizer:
    return Tokenizer.train(texts, 262)


def prepare(folder: Path, documents: list[Document] = DOCUMENTS, **changes: Any) -> Corpus:
    options = {"held_out": 0.2, "tokenizer": learn, "vocabulary": "of size 262", **changes}
    return prepare_corpus(documents, folder, **options)


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def texts(shards: TokenShards, tokenizer: Tokenizer) -> list[str]:
    ids = [shards.document(place) for place in range(shards.num_documents)]
    return tokenizer.decode_batch(ids, skip_special_tokens=True)


def test_every_document_is_learned_from_or_held_out(tmp_path: Path) -> None:
    corpus = prepare(tmp_path)

    kept, rest = hold_out(DOCUMENTS, 0.2)
    assert 0 < len(rest) < len(kept)
    assert corpus.valid is not None
    assert texts(corpus.train, corpus.tokenizer) == [document.text for document in kept]
    assert texts(corpus.valid, corpus.tokenizer) == [document.text for document in rest]


def test_what_is_there_is_read_and_not_made_again(tmp_path: Path) -> None:
    first = prepare(tmp_path)
    before = contents(tmp_path)

    second = prepare(tmp_path, tokenizer=partial(pytest.fail, "the vocabulary was learned again"))

    assert second.train.fingerprint == first.train.fingerprint
    assert contents(tmp_path) == before


def flip(path: Path) -> None:
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[5] ^= 1
    path.write_bytes(data.tobytes())


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "tokens": (
        lambda run: flip(run / "data/train/tokens-00000.bin"),
        r"train/tokens-00000.bin has SHA-256 .* damaged; restore it .* or remove the folder",
    ),
    "held-out tokens": (
        lambda run: flip(run / "data/valid/tokens-00000.bin"),
        r"valid/tokens-00000.bin has SHA-256 .* damaged; restore it .* or remove the folder",
    ),
    "offsets": (
        lambda run: (run / "data/train/offsets.bin").unlink(),
        r"offsets.bin is missing; .* restore it",
    ),
    "manifest": (
        lambda run: (run / "data/train/manifest.json").write_text("x"),
        r"manifest.json is damaged .* restore it",
    ),
    "no manifest": (
        lambda run: (run / "data/train/manifest.json").unlink(),
        r"manifest.json does not exist; .* restore it",
    ),
    "source": (
        lambda run: (run / "data/source.json").write_text("["),
        r"source.json is damaged .* restore it, or remove",
    ),
    "source that is a list": (
        lambda run: (run / "data/source.json").write_text("[]"),
        r"source.json is damaged; .* restore it, or remove",
    ),
    "no source": (
        lambda run: (run / "data/source.json").unlink(),
        r"source.json does not exist; .* restore it, or remove",
    ),
    "tokenizer": (
        lambda run: (run / "tokenizer.json").write_text("{}"),
        r"tokenizer.json has been changed; .* restore it, or remove .*data to have",
    ),
    "no tokenizer": (
        lambda run: (run / "tokenizer.json").unlink(),
        r"tokenizer.json does not exist; .* restore it, or remove .*data to have",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_one_line_that_names_the_file_and_what_to_do(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    prepare(tmp_path)
    damage(tmp_path)

    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        prepare(tmp_path)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["data/valid", "data/train", "data"])
def test_a_folder_that_was_removed_is_made_again(tmp_path: Path, part: str) -> None:
    prepare(tmp_path)
    before = contents(tmp_path)
    shutil.rmtree(tmp_path / part)

    prepare(tmp_path)

    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"documents": DOCUMENTS[:-1]},
            r"prepared from other texts \(40 documents, .* given are 39",
        ),
        ({"held_out": 0.1}, "prepared with held_out 0.2, but 0.1 is given; give the same again"),
        ({"vocabulary": "of size 9"}, "with vocabulary of size 262, but of size 9 is given"),
    ],
    ids=["documents", "held_out", "vocabulary"],
)
def test_something_else_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    prepare(tmp_path)

    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, **changes)


@pytest.mark.parametrize(
    ("documents", "held_out", "message"),
    [
        ([], 0.2, r"the data \(no document\) holds no text"),
        ([Document("a.txt", " \n")], 0.2, r"the data \(a.txt\) holds no text"),
        (DOCUMENTS[:2], 0.999999999, "held_out is 0.999999999, which keeps all text of the 2 doc"),
        (DOCUMENTS, 1.0, "the held-out share is 1.0; expected at least 0 and below 1"),
        (DOCUMENTS, -0.1, "the held-out share is -0.1; expected at least 0 and below 1"),
        (DOCUMENTS, float("nan"), "the held-out share is nan; expected at least 0 and below 1"),
    ],
    ids=["none", "blank", "all-held-out", "one", "negative", "nan"],
)
def test_nothing_to_learn_from_is_refused_and_leaves_nothing(
    tmp_path: Path, documents: list[Document], held_out: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "run", documents, held_out=held_out)

    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_that_cannot_be_learned_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="these texts support"):
        prepare(tmp_path / "run", tokenizer=lambda texts: Tokenizer.train(texts, 9_999))

    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_prepared_by_one_program_at_a_time(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path),
        pytest.raises(BlockingIOError, match="in use by another program; wait for it or choose"),
    ):
        prepare(tmp_path)
