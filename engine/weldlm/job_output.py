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

from weldlm.atomic_file import rename_to_new, replace_file, require_writable
from weldlm.job_record import DoneRows, read_done_rows, require_same_job

__all__ = [
    "JobCounts",
    "JobFiles",
    "JobRows",
    "append_rows",
    "check_output",
    "name_output",
    "require_new",
    "take_back_errors",
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


def check_output(files: JobFiles, *, is_new: bool = True) -> None:
    """Checks that the output can be written and, where it shall be new, is not there.

    Raises:
        FileNotFoundError: there is no folder for it.
        FileExistsError: it is there already.
        PermissionError: its folder takes no files.
    """
    if not files.output.parent.is_dir():
        raise FileNotFoundError(f"{files.output.parent} is not a folder; create it for the output")
    require_writable(files.output.parent)
    if is_new:
        require_new(files.output)


def require_new(output: Path) -> None:
    """Refuses an output that is there already.

    Raises:
        FileExistsError: it is.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output or delete it")


def name_output(files: JobFiles, *, keeps_record: bool = False) -> None:
    """Gives the rows of a finished job the name of the output.

    Args:
        files: the job's.
        keeps_record: the record stays, for what comes after the job.

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
    if not keeps_record:
        files.record.unlink()


def take_back_errors(files: JobFiles, job: dict[str, Any]) -> None:
    """Makes a finished or interrupted job one whose error rows are still to be done.

    Raises:
        FileNotFoundError: there are no rows.
        FileExistsError: the rows are of another job.
    """
    source = files.output if files.output.exists() else files.partial
    if not source.exists():
        raise FileNotFoundError(f"{files.output} does not exist; expected rows to do again")
    require_same_job(files.record, source, job)
    end = read_done_rows(source).num_bytes
    with replace_file(files.partial) as draft, draft.open("wb") as good, source.open("rb") as rows:
        while rows.tell() < end:
            line = rows.readline()
            if json.loads(line).get("error") is None:
                good.write(line)
    files.output.unlink(missing_ok=True)


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
        self.add_failed({"index": index, "error": error})

    def add_failed(self, row: dict[str, Any]) -> None:
        """Appends a row with its "index" and "error"."""
        self.num_failed += 1
        self.add(row)
