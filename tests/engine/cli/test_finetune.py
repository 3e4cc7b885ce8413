"""`weldlm finetune` and `weldlm predict`: files in, files out, and the exit codes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.tiny_tasks import tiny_folder, tiny_rows
from weldlm.adapters import load_adapter, with_head
from weldlm.cli import main
from weldlm.heads import SequenceClassifier
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained


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


def test_an_incomplete_environment_of_ranks_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    files = ("--model", folder / "base", "--data", tiny_rows(folder / "more", "classify"))

    code = run("finetune", "--task", "classify", *files, "--out", folder / "ranked")

    assert code == 2
    assert "WORLD_SIZE is 2, but RANK, LOCAL_RANK" in capsys.readouterr().err
    assert not (folder / "ranked").exists()


def test_an_adapter_is_trained_saved_and_merged(folder: Path, tmp_path: Path) -> None:
    options = folder / "run" / "finetune.toml"
    lora = ("--lora-rank", 4, "--lora-target", "attention", "--lora-target", "mlp")

    code = run("finetune", "--config", options, "--out", tmp_path / "run", *lora, "--epochs", 1)

    model = load_pretrained(tmp_path / "run" / "model", SequenceClassifier)
    adapted = with_head(folder / "base", "sequence_classification", labels=["0", "1"])[0]
    load_adapter(adapted.eval(), tmp_path / "run" / "adapter")
    model.eval()
    batch = PackedBatch.from_sequences([[5, 6, 7], [8, 9]])
    torch.testing.assert_close(model.logits(batch), adapted.logits(batch), rtol=1e-5, atol=1e-6)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["settings"]["lora"]["targets"] == ["attention", "mlp"]
    (tmp_path / "rows.jsonl").write_text('{"text": "the film is fine"}\n')
    files = ("-i", tmp_path / "rows.jsonl", "-o", tmp_path / "out.jsonl")
    assert (code, run("predict", tmp_path / "run", *files)) == (0, 0)


def test_a_part_of_an_adapter_alone_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = folder / "run" / "finetune.toml"

    code = run("finetune", "--config", options, "--out", tmp_path / "run", "--lora-alpha", 8)

    assert code == 2
    assert "--lora-alpha is of an adapter; give --lora-rank too" in capsys.readouterr().err


def test_saved_options_make_the_same_run_again(folder: Path, tmp_path: Path) -> None:
    code = run(
        "finetune", "--config", folder / "run" / "finetune.toml", "--out", tmp_path / "again"
    )

    first, again = (
        (out / "model" / "model.safetensors").read_bytes()
        for out in (folder / "run", tmp_path / "again")
    )
    assert code == 0
    assert first == again


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_under_torchrun_find_what_one_process_finds(
    folder: Path, tmp_path: Path, parallel: str
) -> None:
    command = ("-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "weldlm", "finetune")
    options = ("--config", str(folder / "run" / "finetune.toml"), "--out", str(tmp_path / "run"))

    subprocess.run(
        [sys.executable, *command, *options, "--parallel", parallel],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        check=True,
        timeout=240,
    )

    one, two = (
        json.loads((out / "metrics.json").read_text())["heldout"]
        for out in (folder / "run", tmp_path / "run")
    )
    assert two == pytest.approx(one, rel=1e-3)
