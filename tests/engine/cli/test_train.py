"""`weldlm train`: what a resumed run is made of."""

from pathlib import Path

import pytest

from weldlm.cli import main
from weldlm.tokenizer import Tokenizer

CORPUS = "".join(f"def f{n}(x):\n    return x + {n}\n\n" for n in range(200))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def train(folder: Path, *more: object) -> int:
    size = ("--steps", 1, "--rows-per-step", 2, "--context-length", 32)
    files = ("--data", folder / "corpus.txt", "--out", folder / "run")
    return run("train", *files, *size, *more)


@pytest.fixture(name="folder")
def folder_with_a_corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus.txt").write_text(CORPUS)
    return tmp_path


def test_another_tokenizer_under_the_same_name_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "tokenizer.json"
    Tokenizer.train([CORPUS], 300).save(path)
    first = train(folder, "--tokenizer", path)
    Tokenizer.train([CORPUS[:2_000]], 270).save(path)

    second = train(folder, "--tokenizer", path, "--resume")

    assert (first, second) == (0, 2)
    assert "was prepared with vocabulary with fingerprint" in capsys.readouterr().err


def test_the_same_tokenizer_under_another_name_goes_on(folder: Path) -> None:
    Tokenizer.train([CORPUS], 300).save(folder / "a.json")
    Tokenizer.train([CORPUS], 300).save(folder / "b.json")

    assert train(folder, "--tokenizer", folder / "a.json") == 0
    assert train(folder, "--tokenizer", folder / "b.json", "--resume") == 0


def test_lost_metrics_do_not_keep_a_finished_run_from_its_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(folder, "--vocab-size", 300)
    (folder / "run" / "metrics.jsonl").unlink()
    capsys.readouterr()

    code = train(folder, "--vocab-size", 300, "--resume")

    output = capsys.readouterr()
    assert code == 0
    assert '"model": ' in output.out
    assert "loss.svg is not drawn" in output.err
