"""What a batch job leaves on the disk: rows appended as they finish, a whole file at the end.

Rows go to `<output>.partial`, which takes the output's name when all are there; `<output>.job.json`
says what the job is until then. What bears the output's name is complete.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from weldlm.atomic_file import rename_to_new, require_writable
from weldlm.job_record import DoneRows

__all__ = [
    "JobCounts",
    "JobFiles",
    "JobRows",
    "append_rows",
    "check_output",
    "name_output",
    "require_new",
]

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class JobFiles:
    """Where a job reads and writes."""

    source: Path
    output: Path  # .jsonl, must not exist

    @property
    def partial(self) -> Path:
        """Holds the rows until the job is complete."""
        return self.output.with_name(f"{self.output.name}.partial")

    @property
    def record(self) -> Path:
        """Says what the job is, until it is complete."""
        return self.output.with_name(f"{self.output.name}.job.json")


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How the rows of a job ended."""

    num_completed: int
    num_failed: int


def check_output(files: JobFiles) -> None:
    """Checks that the output can be written and is not there.

    Raises:
        FileNotFoundError: there is no folder for it.
        FileExistsError: it is there already.
        PermissionError: its folder takes no files.
    """
    if not files.output.parent.is_dir():
        raise FileNotFoundError(f"{files.output.parent} is not a folder; create it for the output")
    require_writable(files.output.parent)
    require_new(files.output)


def require_new(output: Path) -> None:
    """Refuses an output that is there already.

    Raises:
        FileExistsError: it is.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output or delete it")


def name_output(files: JobFiles) -> None:
    """Gives the rows of a finished job the name of the output.

    Raises:
        FileExistsError: something else has taken it.
    """
    try:
        rename_to_new(files.partial, files.output)
    except FileExistsError as error:
        raise FileExistsError(
            f"{files.output} was made by another program while the job ran; the job's rows are in "
            f"{files.partial}; move {files.output.name} away and give the same command again"
        ) from error
    files.record.unlink()


@contextmanager
def append_rows(
    files: JobFiles, num_rows: int, done: DoneRows, report: Report | None
) -> Iterator["JobRows"]:
    """Yields what takes the rows; a block that ends without any leaves no file."""
    with files.partial.open("ab", buffering=0) as file:
        file.truncate(done.num_bytes)
        rows = JobRows(file, num_rows, done, report)
        try:
            yield rows
            os.fsync(file.fileno())
        except OSError as error:
            error.filename = error.filename or str(files.partial)  # writing does not say it
            raise
        finally:
            if rows.num_done == 0:
                files.partial.unlink()
                files.record.unlink()


class JobRows:
    """Appends rows to the output, each written out at once."""

    def __init__(self, file: FileIO, num_rows: int, done: DoneRows, report: Report | None) -> None:
        self.num_done, self.num_failed = len(done.indexes), done.num_failed
        self._file, self._num_rows, self._report = file, num_rows, report

    @property
    def counts(self) -> JobCounts:
        return JobCounts(self.num_done - self.num_failed, self.num_failed)

    def add(self, row: dict[str, Any]) -> None:
        """Appends a row with its "index"."""
        left = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        while left:  # a disk that is nearly full takes a part
            left = left[self._file.write(left) :]
        self.num_done += 1
        if self._report is not None:
            self._report(self.num_done, self._num_rows)

    def add_error(self, index: int, error: str) -> None:
        """Appends what is wrong with a row."""
        self.num_failed += 1
        self.add({"index": index, "error": error})
