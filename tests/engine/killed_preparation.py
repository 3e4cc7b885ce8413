"""A program that makes the corpus of the tests and kills itself: python -m
tests.engine.killed_preparation FOLDER 13 (at the 13th write that is forced to the disk)."""

import sys
from pathlib import Path

from tests.engine.killed_at_sync import kill_at_sync
from tests.engine.prepared_texts import prepare

if __name__ == "__main__":
    kill_at_sync(int(sys.argv[2]))
    prepare(Path(sys.argv[1]))
