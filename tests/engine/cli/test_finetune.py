"""`weldlm finetune` and `weldlm predict`: files in, files out, and the exit codes."""

import io
import json
import sys
from pathlib import Path

import pytest

from tests.engine.tiny_tasks import tiny_folder, tiny_rows
from weldlm.cli import main


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module", name="folder")
def fine_tuned_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, rows, and a run of three epochs."""
    folder = tmp_path_factory.mktemp("finetune")
    tiny_folder(folder / "base", "classify")
    rows = tiny_rows(folder / "data", "classify")
    files = ("--model", folder / "base", "--data", rows, "--out", folder / "run")
    length = ("--epochs", 3, "--rows-per-step", 8, "--lr", 1e-2, "--dtype", "float32")
    code = run("finetune", "--task", "classify", *files, *length, "--seed", 1)
    assert code == 0
    return folder


def test_a_run_leaves_model_figures_predictions_and_card(folder: Path) -> None:
    out = folder / "run"

    metrics = json.loads((out / "metrics.json").read_text())
    predictions = (out / "predictions.jsonl").read_text().splitlines()
    assert metrics["heldout"]["accuracy"] > 0.9
    assert metrics["settings"]["seed"] == 1
    assert len(predictions) == metrics["num_rows"]["heldout"]
    assert (out / "loss.svg").exists()
    assert {path.name for path in (out / "model").iterdir()} >= {
        "README.md", "config.json", "metrics.json", "model.safetensors", "task.json",
        "tokenizer.json",
    }  # fmt: skip


def test_a_finished_run_is_not_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--model", folder / "base", "--data", folder / "data", "--out", folder / "run")

    assert run("finetune", "--task", "classify", *files) == 2
    assert "is not empty; pass --resume to go on" in capsys.readouterr().err


def test_bad_rows_stop_a_run_before_anything_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.tsv").write_bytes(b"the film\t1\n\xff\t0\n")
    files = ("--data", tmp_path / "rows.tsv", "--out", tmp_path / "run")

    assert run("finetune", "--task", "classify", "--model", folder / "base", *files) == 2
    assert "rows.tsv:2: the line is not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_row_that_fails_makes_exit_code_3(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "the film is fine"}\n{"text": 3}\n')

    files = ("-i", tmp_path / "rows.jsonl", "-o", tmp_path / "out.jsonl")
    code = run("predict", folder / "run", *files)

    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert code == 3
    assert rows[0].keys() == {"index", "label", "confidence"}
    assert "has 3 under 'text'" in rows[1]["error"]


def test_rows_go_from_stdin_to_stdout(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = io.TextIOWrapper(io.BytesIO(b"the film is fine\nthe meal is awful\n"))
    monkeypatch.setattr(sys, "stdin", source)

    code = run("predict", folder / "run", "-i", "-", "-o", "-", "--format", "tsv")

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert [row["index"] for row in rows] == [0, 1]


def test_an_output_that_is_there_is_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("the film\n")
    (tmp_path / "out.jsonl").write_text("mine")

    files = ("-i", tmp_path / "rows.txt", "-o", tmp_path / "out.jsonl")

    assert run("predict", folder / "run", *files) == 2
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_several_processes_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    files = ("--model", folder / "base", "--data", tiny_rows(folder / "more", "classify"))

    code = run("finetune", "--task", "classify", *files, "--out", folder / "ranked")

    assert code == 2
    assert "WORLD_SIZE is 2, but weldlm finetune runs in one process" in capsys.readouterr().err
    assert not (folder / "ranked").exists()
