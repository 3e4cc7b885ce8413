"""`weldlm data`: a corpus from files, and training on it."""

import json
import sys
from pathlib import Path

import pytest

from weldlm.cli import main
from weldlm.data.cleaning import language
from weldlm.data.pipeline import open_prepared
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.fingerprint import fingerprint

TRAINING = ("--steps", 1, "--rows-per-step", 2, "--row-length", 16)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


@pytest.fixture(name="folder")
def folder_with_texts(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for number in range(40):
        (tmp_path / "texts" / f"{number}.txt").write_text(
            f"def f{number}(x):\n    return {number}\n" * 3
        )
    return tmp_path


def prepare(folder: Path, *more: object) -> int:
    files = ("--data", folder / "texts", "--out", folder / "corpus", "--vocab-size", 262)
    return run("data", *files, "--held-out", 0.2, *more)


def test_corpus_is_trained_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(folder) == 0
    row = json.loads(capsys.readouterr().out)
    assert run("train", "--data", folder / "corpus", "--out", folder / "run", *TRAINING) == 0

    corpus = open_prepared(folder / "corpus").corpus
    trained = Tokenizer.from_pretrained(folder / "run" / "model")
    assert row["train"] == {
        "documents": corpus.train.num_documents,
        "tokens": corpus.train.num_tokens,
    }
    assert row["train"]["documents"] + row["valid"]["documents"] == row["documents"] == 40
    assert fingerprint(trained) == fingerprint(corpus.tokenizer)


def test_corpus_of_a_decoder_is_none_of_an_encoder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(folder)
    files = ("--data", folder / "corpus", "--out", folder / "run")

    assert run("train", *files, *TRAINING, "--model", "bert-tiny") == 2
    assert "was prepared for decoders" in capsys.readouterr().err


@pytest.mark.slow
def test_corpus_of_an_encoder_is_trained_on(folder: Path) -> None:
    files = ("--data", folder / "corpus", "--out", folder / "run")

    assert prepare(folder, "--kind", "encoder", "--vocab-size", 60) == 0
    assert run("train", *files, *TRAINING, "--model", "bert-tiny", "--dtype", "float32") == 0


@pytest.mark.parametrize(
    "more", [("--held-out", 0.5), ("--vocab-size", 300)], ids=lambda more: str(more[0])
)
def test_what_a_corpus_has_settled_is_no_option_of_training(
    folder: Path, more: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(folder)

    assert run("train", "--data", folder / "corpus", "--out", folder / "run", *TRAINING, *more) == 2
    assert "has its own" in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_bad_row_stops_with_its_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = folder / "texts" / "rows.jsonl"
    rows.write_text('{"text": "fine"}\n{"body": "x"}\n')

    assert prepare(folder) == 2
    error = capsys.readouterr().err
    assert f"{rows}:2: there is no 'text', but body" in error
    assert "--on-error skip leaves it out" in error
    assert sorted(path.name for path in folder.iterdir()) == ["texts"]

    assert prepare(folder, "--on-error", "skip") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["bad"] == 1
    assert f"left out: {rows}:2" in captured.err


def test_options_stand_in_a_file(folder: Path) -> None:
    (folder / "data.toml").write_text(
        f'data = ["{folder / "texts"}"]\nout = "{folder / "corpus"}"\ninclude = ["1*.txt"]\n'
        "vocab_size = 260\n"
    )

    assert run("data", "--config", folder / "data.toml", "--held-out", 0.5) == 0

    settings = open_prepared(folder / "corpus").manifest["settings"]
    assert (settings["include"], settings["held_out"]) == (["1*.txt"], 0.5)


@pytest.mark.parametrize(
    ("package", "more"),
    [
        ("rensa", ("--duplicates", "near")),
        ("ftfy", ("--repair",)),
        ("py3langid.langid", ("--language", "en")),
        ("trafilatura", ()),
        ("pyarrow", ()),
    ],
    ids=lambda value: value.split(".")[0] if isinstance(value, str) else "",
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    folder: Path,
    package: str,
    more: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "texts" / "page.html").write_text("<p>text</p>")
    (folder / "texts" / "rows.parquet").write_bytes(b"PAR1")
    if package == "trafilatura":
        (folder / "texts" / "rows.parquet").unlink()
    monkeypatch.setitem(sys.modules, package, None)
    language._load_identifier.cache_clear()

    assert prepare(folder, *more) == 2

    (error,) = capsys.readouterr().err.splitlines()
    assert f"needs the package {package}, which is not installed" in error
    assert 'pip install "weldlm[data]"' in error
    assert sorted(path.name for path in folder.iterdir()) == ["texts"]
