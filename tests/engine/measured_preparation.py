"""A program that makes a corpus and prints the most memory that it took, in bytes: python -m
tests.engine.measured_preparation FOLDER."""

import resource
import sys
from pathlib import Path

from tests.engine.prepared_texts import prepare

if __name__ == "__main__":
    prepare(Path(sys.argv[1]), part_bytes=1 << 24, duplicates="keep", on_error="skip")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)  # noqa: T201 (it is the answer)
