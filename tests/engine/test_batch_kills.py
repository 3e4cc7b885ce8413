"""Batch jobs that SIGKILL ends at random moments, and what long ones take of memory and disk."""

import errno
import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.engine import killed_job
from tests.engine.test_batch_job import files, read_rows
from tests.engine.tiny_models import tiny_model
from weldlm.batch_job import JobCounts, JobFiles, run_batch_job
from weldlm.batch_limits import BatchLimits
from weldlm.cli.model_folder import keep_model
from weldlm.job_record import read_done_rows
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

BATCH_SIZE = 8
TOKENIZER = Tokenizer.train(["some text " * 50], 262)
MODEL = tiny_model(vocab_size=TOKENIZER.vocab_size)


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
    keep_model(MODEL, TOKENIZER, tmp_path / "model")
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


def mixed_rows(number: int) -> list[dict[str, Any]]:
    """Prompts and rows of an OpenAI batch; the sixth is bad."""
    body = {"prompt": ["some", "text"], "max_tokens": 5}
    rows: list[dict[str, Any]] = [
        {"prompt": f"text {place}"}
        if place % 3
        else {"custom_id": f"{place}", "method": "POST", "url": "/v1/completions", "body": body}
        for place in range(number)
    ]
    rows[5] = {"prompt": ""}
    return rows


@pytest.mark.parametrize(
    ("num_kills", "num_rows"),
    [
        pytest.param(3, 90, id="3-kills"),
        pytest.param(50, 2_000, id="50-kills", marks=pytest.mark.slow),
    ],
)
def test_kills_lose_no_row_double_none_and_cost_no_more_than_the_rows_in_flight(
    tmp_path: Path, num_kills: int, num_rows: int
) -> None:
    rows = mixed_rows(num_rows)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    program = [sys.executable, "-m", "tests.engine.killed_job", str(tmp_path), str(num_kills)]

    found = json.loads(subprocess.run(program, capture_output=True, check=True).stdout)

    output = sorted((tmp_path / "out.jsonl").read_bytes().splitlines())
    assert found["num_killed"] == num_kills
    assert output == sorted((tmp_path / "whole.jsonl").read_bytes().splitlines())
    assert sorted(json.loads(row)["index"] for row in output) == list(range(num_rows))
    num_prompts = sum(2 if "body" in row else 1 for row in rows) - 1
    redone = found["num_requests"] - num_prompts
    # a row of two prompts is in flight while one of them is
    assert 0 < redone <= num_kills * 2 * killed_job.BATCH_SIZE


def resident_bytes() -> int:
    """What this program holds of memory that is not of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [kibibytes] = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(kibibytes) << 10


@pytest.mark.slow
def test_a_long_job_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    rows = [*mixed_rows(10_000), {"prompt": "text", "n": 2, "temperature": 1, "logprobs": 5}]
    job = files(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    held: dict[int, int] = {}

    def note(done: int, _: int) -> None:
        if done % 1_000 == 0:
            held[done] = resident_bytes()

    limits = BatchLimits(batch_size=32)
    run_batch_job(MODEL, TOKENIZER, job, SamplingSettings(max_tokens=6), limits=limits, report=note)

    assert len(held) == 10
    assert max(held.values()) - held[2_000] < 2 << 20


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], object]]:
    """A disk of 32 KiB; yields what makes it larger."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        yield partial(subprocess.run, ["mount", "-o", "remount,size=4m", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_files(folder: Path) -> Iterator[Callable[[], object]]:
    """Files of at most 20,000 bytes, of this program; yields what ends the limit."""
    folder.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("limited", [small_disk, small_files])
def test_a_job_on_a_full_disk_stops_and_goes_on_when_there_is_room(
    tmp_path: Path, limited: Callable[[Path], AbstractContextManager[Callable[[], object]]]
) -> None:
    rows = [{"prompt": "some text " * 8 + str(number)} for number in range(200)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = SamplingSettings(max_tokens=2, temperature=1.0)
    whole = JobFiles(tmp_path / "in.jsonl", tmp_path / "whole.jsonl")
    run_batch_job(MODEL, TOKENIZER, whole, settings)

    with limited(tmp_path / "disk") as give_room:
        job = JobFiles(tmp_path / "in.jsonl", tmp_path / "disk" / "out.jsonl")
        with pytest.raises(OSError, match=r"out.jsonl.partial") as failure:
            run_batch_job(MODEL, TOKENIZER, job, settings)
        num_kept = len(read_done_rows(job.partial).indexes)
        names = sorted(path.name for path in job.output.parent.iterdir())
        give_room()
        counts = run_batch_job(MODEL, TOKENIZER, job, settings)
        found = read_rows(job.output)

    assert failure.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert 0 < num_kept < 200
    assert names == ["out.jsonl.job.json", "out.jsonl.partial"]
    assert counts == JobCounts(num_completed=200, num_failed=0)
    assert found == read_rows(whole.output)
