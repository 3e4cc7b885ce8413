"""`weldlm generate` on a file: one program at a time, and a job that SIGTERM ends can go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.tiny_models import tiny_model
from weldlm.cli import main
from weldlm.cli.model_folder import keep_model
from weldlm.sealed_folder import lock_file
from weldlm.tokenizer import Tokenizer


@pytest.fixture(name="folder")
def model_and_prompts(tmp_path: Path) -> Path:
    tokenizer = Tokenizer.train(["some text " * 50], 262)
    keep_model(tiny_model(vocab_size=tokenizer.vocab_size), tokenizer, tmp_path / "model")
    (tmp_path / "in.txt").write_text("some text\n" * 800)
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    files = ("-i", str(folder / "in.txt"), "-o", str(folder / "out.jsonl"))
    return ["generate", "--model", str(folder / "model"), *files, *more]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def wait_for_rows(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_job_on_one_output_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock_file(folder / "out.jsonl"), pytest.raises(SystemExit) as exit_:
        main(command(folder))

    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.count("\n") == 1
    assert "out.jsonl is in use by another program; wait for it or choose another path" in error
    assert names(folder) == ["in.txt", "model"]


def test_sigterm_keeps_the_rows_and_the_same_command_goes_on(folder: Path) -> None:
    program = [sys.executable, "-m", "weldlm", *command(folder, "--max-tokens", "2")]
    partial = folder / "out.jsonl.partial"

    job = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    wait_for_rows(partial)
    os.kill(job.pid, signal.SIGTERM)
    _, error = job.communicate(timeout=60)
    left, num_kept = names(folder), partial.read_bytes().count(b"\n")
    again = subprocess.run(program, capture_output=True, check=False)

    assert (job.returncode, again.returncode) == (143, 0)
    assert "out.jsonl.partial keeps the rows; the same command goes on" in error
    assert error.endswith("weldlm: terminated\n")
    assert left == ["in.txt", "model", "out.jsonl.job.json", "out.jsonl.partial"]
    assert 0 < num_kept < 800
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert sorted(row["index"] for row in rows) == list(range(800))
    assert names(folder) == ["in.txt", "model", "out.jsonl"]


def test_rows_go_from_stdin_to_stdout(folder: Path) -> None:
    rows = '{"prompt": "some text"}\n{"prompt": 3}\n'
    program = [sys.executable, "-m", "weldlm", "generate", "--model", str(folder / "model")]
    options = ["-i", "-", "-o", "-", "--max-tokens", "2"]

    done = subprocess.run([*program, *options], input=rows, capture_output=True, text=True)

    assert done.returncode == 3
    found = sorted(map(json.loads, done.stdout.splitlines()), key=lambda row: row["index"])
    assert found[0]["prompt"] == "some text"
    assert found[0]["num_tokens"] == 2
    assert 'no text under "prompt"' in found[1]["error"]
    assert "1 completed, 1 failed" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "2/2"], "--shard is '2/2'; expected I/N with I from 0 to N - 1"),
        (["--format", "txt"], "--format is of stdin"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(command(folder, *options))

    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
