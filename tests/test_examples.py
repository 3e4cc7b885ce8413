"""The examples run and reach what they say."""

import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.engine.tiny_tasks import tiny_folder, tiny_rows

EXAMPLES = Path(__file__).parents[1] / "examples"
LOSS_OF_A_GUESS = 4.16  # ln 64
MOST_LINES = 60
SHORT = ("--epochs", "1", "--rows-per-step", "8", "--lr", "1e-2", "--dtype", "float32")


def test_model_from_a_paper_learns() -> None:
    example = runpy.run_path(str(EXAMPLES / "model_from_a_paper.py"))

    assert example["main"](40) < LOSS_OF_A_GUESS - 0.7


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.*")), ids=lambda path: path.name)
def test_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def run(name: str, folder: Path, *arguments: object) -> str:
    """What a script prints, where `weldlm` is that of the tests."""
    program = folder / "weldlm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m weldlm "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [str(EXAMPLES / name), *map(str, arguments)],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_model_is_looked_into(tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "model", "instruct")

    run("understand.sh", tmp_path, model, "the film is fine", tmp_path / "out")

    assert (tmp_path / "out" / "page.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "out" / "bias.json").read_text())["shares"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sentiment", "tokens", "qa"])
def test_models_are_fine_tuned(task: str, tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "model", task)  # type: ignore[arg-type]
    rows = tiny_rows(tmp_path / "rows", task)  # type: ignore[arg-type]

    printed = run("finetune.sh", tmp_path, task, model, rows, tmp_path / "out", *SHORT)

    assert len((tmp_path / "out" / "answers.jsonl").read_text().splitlines()) == 120
    assert '"index": 0' in printed


@pytest.mark.slow
def test_families_are_pretrained(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    shutil.copy(subprocess.__file__, corpus)
    short = ("--steps", "2", "--context-length", "64", "--rows-per-step", "2")

    printed = run("pretrain.sh", tmp_path, corpus, tmp_path / "out", *short)

    assert "bits_per_byte" in printed
    assert '"masks"' in printed
    assert "encoder and" in printed


@pytest.mark.slow
def test_adapter_changes_the_answer(tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "model", "instruct")
    chats = tiny_rows(tmp_path / "rows", "instruct")

    printed = run("instruct_lora.sh", tmp_path, model, chats, tmp_path / "out", *SHORT)

    assert "adapter_model.safetensors" in printed
    assert "with:" in printed


@pytest.mark.slow
def test_student_is_compared_to_its_teacher(tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "model", "classify")
    rows = tiny_rows(tmp_path / "rows", "classify")

    printed = run("distill.sh", tmp_path, model, rows, tmp_path / "out", *SHORT)

    assert "difference, first less second" in printed
    assert "GFLOP" in printed


@pytest.mark.slow
@pytest.mark.skipif(find_spec("uvicorn") is None, reason="the extra `serve` is not installed")
def test_server_answers(tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "model", "instruct")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    run("serve.sh", tmp_path, model, port)
