"""Batch jobs that SIGKILL ends at random moments."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.test_batch_job import read_rows
from tests.engine.tiny_models import tiny_model
from weldlm.cli.model_folder import keep_model
from weldlm.tokenizer import Tokenizer

BATCH_SIZE = 8


def program(folder: Path, output: str) -> list[str]:
    files = ["-i", str(folder / "in.jsonl"), "-o", str(folder / output)]
    options = ["--batch-size", str(BATCH_SIZE), "--max-tokens", "40", "--temperature", "1"]
    model = ["--model", str(folder / "model")]
    return [sys.executable, "-m", "weldlm", "generate", *model, *files, *options]


def run_and_kill(folder: Path, draws: random.Random) -> bool:
    """Kills a job some rows after it has begun to write; False where it ended before."""
    partial = folder / "out.jsonl.partial"
    before = partial.stat().st_size if partial.exists() else 0
    with subprocess.Popen(program(folder, "out.jsonl"), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if partial.exists() and partial.stat().st_size > before:
                time.sleep(draws.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
                return process.wait() == -signal.SIGKILL
            time.sleep(0.005)
    return False


@pytest.mark.slow
def test_a_job_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["some text " * 50], 262)
    keep_model(tiny_model(vocab_size=tokenizer.vocab_size), tokenizer, tmp_path / "model")
    body = {"prompt": "some", "max_tokens": 20}
    rows = [
        {"prompt": f"text {number}"}
        if number % 3
        else {"custom_id": f"{number}", "method": "POST", "url": "/v1/completions", "body": body}
        for number in range(800)
    ]
    rows[5] = {"prompt": ""}
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    subprocess.run(program(tmp_path, "whole.jsonl"), stderr=subprocess.DEVNULL, check=False)
    draws = random.Random(0)

    num_kills = sum(run_and_kill(tmp_path, draws) for _ in range(5))
    code = subprocess.run(program(tmp_path, "out.jsonl"), stderr=subprocess.DEVNULL).returncode

    assert num_kills >= 3
    assert code == 3
    assert read_rows(tmp_path / "out.jsonl") == read_rows(tmp_path / "whole.jsonl")
    assert [row["index"] for row in read_rows(tmp_path / "out.jsonl")] == list(range(800))
