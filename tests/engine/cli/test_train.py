"""`weldlm train`: what a resumed run is made of."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from weldlm.cli import main
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained

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


@pytest.mark.parametrize(
    ("model", "size"), [("bert-tiny", 50), ("t5-tiny", 160)], ids=["encoder", "encoder-decoder"]
)
def test_other_families_learn_from_hidden_text(folder: Path, model: str, size: int) -> None:
    files = ("--data", folder / "corpus.txt", "--out", folder / "run")
    sizes = ("--steps", 2, "--rows-per-step", 2, "--row-length", 24, "--vocab-size", size)

    assert run("train", *files, *sizes, "--model", model, "--dtype", "float32") == 0

    auto = AutoModelForMaskedLM if model == "bert-tiny" else AutoModelForSeq2SeqLM
    theirs = auto.from_pretrained(folder / "run" / "model")
    assert theirs.config.vocab_size == Tokenizer.from_pretrained(folder / "run/model").vocab_size


def test_training_goes_on_from_a_model_folder(folder: Path) -> None:
    train(folder, "--vocab-size", 300)
    more = (
        "--data",
        folder / "corpus.txt",
        "--out",
        folder / "more",
        "--model",
        folder / "run/model",
    )

    assert run("train", *more, "--steps", 1, "--rows-per-step", 1, "--lr", 1e-30) == 0

    first = load_pretrained(folder / "run" / "model")
    again = load_pretrained(folder / "more" / "model")
    for ours, same in zip(first.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(ours, same, rtol=1e-6, atol=0)


def test_command_line_wins_over_the_file_of_options(folder: Path) -> None:
    (folder / "run.toml").write_text(
        f'data = "{folder / "corpus.txt"}"\nsteps = 3\nrows_per_step = 1\ncontext-length = 32\n'
        "vocab_size = 300\nlr = 0.25\nbetas = [0.5, 0.75]\n"
    )

    code = run("train", "--config", folder / "run.toml", "--out", folder / "run", "--steps", 1)

    settings = json.loads((folder / "run" / "run.json").read_text())["settings"]
    assert code == 0
    assert (settings["steps"], settings["lr"], settings["betas"]) == (1, 0.25, [0.5, 0.75])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate = 1", "sets learning_rate, which is no option; expected any of "),
        ("lr =", "is not TOML (Invalid value"),
        ("[lr]\nvalue = 1", "sets lr to a table; expected a value"),
    ],
    ids=["unknown", "damaged", "table"],
)
def test_bad_file_of_options_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (folder / "run.toml").write_text(text)

    assert run("train", "--config", folder / "run.toml") == 2
    assert message in capsys.readouterr().err


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
