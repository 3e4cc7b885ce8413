"""A program that trains on two ranks, whose checkpoints are in parts, and kills both at once:
python -m tests.engine.killed_ranks FOLDER 1 6 (at the 6th write that rank 1 forces to the disk)."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.engine.killed_at_sync import kill_at_sync
from tests.engine.ranked_runs import SHARDED, fit, run_on_ranks
from weldlm.distributed import Ranks


def kill_all() -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)


def train(folder: Path, ranks: Ranks) -> dict[str, Any]:
    if ranks.rank == int(sys.argv[2]):
        kill_at_sync(int(sys.argv[3]), kill_all)
    fit(folder / "run", settings=SHARDED.changed(parallel="fsdp"))
    return {}


if __name__ == "__main__":
    run_on_ranks(train, Path(sys.argv[1]))
