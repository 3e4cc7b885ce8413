"""A program that kills its own batch job: python -m tests.engine.killed_job FOLDER NUM_KILLS.

Completes FOLDER/in.jsonl twice: whole.jsonl at once, and out.jsonl by children of which NUM_KILLS
end by SIGKILL at random moments. Children are forks, so that nobody pays for their start. Says how
many were killed and how many requests the engine took for out.jsonl in all.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.engine.tiny_models import tiny_model
from weldlm.batch_job import JobFiles, run_batch_job
from weldlm.batch_limits import BatchLimits
from weldlm.engine import Engine
from weldlm.generation_request import Request
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

__all__ = ["BATCH_SIZE"]

BATCH_SIZE = 8
SETTINGS = SamplingSettings(max_tokens=12, temperature=1.0)
TOKENIZER = Tokenizer.train(["some text " * 50], 262)
MODEL = tiny_model(vocab_size=TOKENIZER.vocab_size)


def complete(folder: Path, name: str) -> None:
    files = JobFiles(folder / "in.jsonl", folder / name)
    run_batch_job(MODEL, TOKENIZER, files, SETTINGS, limits=BatchLimits(batch_size=BATCH_SIZE))


def count_requests(path: Path) -> None:
    """Appends a byte to a file for each request that an engine takes, which no kill takes back."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    add = Engine.add

    def counted(engine: Engine, request: Request) -> None:
        os.write(file, b".")
        add(engine, request)

    Engine.add = counted  # type: ignore[method-assign]


def in_child(work: Callable[[], None]) -> int:
    """Forks; the child does the work and ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def kill_after(child: int, partial: Path, num_rows: int, seconds: float) -> bool:
    """Kills a child some time after it has written so many more rows; False if it ended before."""
    size, seen = (partial.stat().st_size if partial.exists() else 0), 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if partial.exists() and partial.stat().st_size > size:
            with partial.open("rb") as rows:
                rows.seek(size)
                seen = rows.read().count(b"\n")
        if seen >= num_rows:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        time.sleep(0.0005)
    return False


def main() -> None:
    folder, num_kills = Path(sys.argv[1]), int(sys.argv[2])
    draws = random.Random(num_kills)
    complete(folder, "whole.jsonl")
    num_rows = (folder / "in.jsonl").read_bytes().count(b"\n")
    requests, partial = folder / "requests", folder / "out.jsonl.partial"

    def work() -> None:
        count_requests(requests)
        complete(folder, "out.jsonl")

    killed = 0
    for _ in range(num_kills):
        most = num_rows // num_kills - BATCH_SIZE  # so that rows are left for the last one
        after, seconds = draws.randint(0, most), draws.uniform(0, 0.01)
        killed += kill_after(in_child(work), partial, after, seconds)
    os.waitpid(in_child(work), 0)
    found = {"num_killed": killed, "num_requests": requests.stat().st_size}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
