"""Batch jobs: a file of prompts in, a JSONL file of completions out.

Rows are appended to `<output>.partial` as they finish, and the file takes its name when all are
there: what bears that name is complete. The same job, started again after an interruption, does the
rows that are missing. A bad row becomes an error row; the others go on.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from weldlm.atomic_file import rename_to_new, require_writable
from weldlm.generation import BatchLimits, Completion, GenerativeModel, complete
from weldlm.job_record import DoneRows, describe_job, open_record
from weldlm.prompt import Prompt, num_first_ids
from weldlm.prompt_file import PromptRow, check_prompt_file, read_prompts
from weldlm.sampling import SamplingSettings
from weldlm.sealed_folder import lock_file
from weldlm.tokenizer import Tokenizer

__all__ = ["JobCounts", "JobFiles", "check_files", "run_batch_job"]


@dataclass(frozen=True, slots=True)
class JobFiles:
    """Where a job reads and writes."""

    prompts: Path  # .txt: one prompt a line; .jsonl: one {"prompt": text} a line
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


def run_batch_job(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    files: JobFiles,
    settings: SamplingSettings,
    *,
    batch_size: int = 16,
    report: Callable[[int, int], None] | None = None,
) -> JobCounts:
    """Completes every prompt of a file.

    Rows are written in the order in which they finish: {"index", "prompt", "completion",
    "finish_reason", "num_prompt_tokens", "num_tokens"}, or {"index", "error"} for a bad one. The
    index counts the lines of the input from 0; it is the row id of the draws.

    Args:
        model: a `CausalLM` or `Seq2SeqLM`.
        tokenizer: the model's.
        files: input and output.
        settings: how to choose tokens and when to end.
        batch_size: most sequences under way at a time.
        report: called after each row with the number of rows done and of all rows.

    Raises:
        ValueError: the input is neither .txt nor .jsonl, or empty, or the batch does not fit into
            memory.
        FileNotFoundError: there is no such input, or no folder for the output.
        FileExistsError: the output, or what an interrupted other job left of it, is there already;
            or the output was made by somebody else while the job ran.
        BlockingIOError: another program works on the same output.
    """
    BatchLimits(batch_size=batch_size)  # checks it before anything is read or written
    check_files(files)
    with lock_file(files.output):
        _require_new(files.output)  # the job that held the lock may have made it
        num_rows, longest = _measure(read_prompts(files.prompts, model.config, tokenizer))
        if num_rows == 0:
            raise ValueError(f"{files.prompts} is empty; expected one prompt a line")
        limits = BatchLimits(
            batch_size=min(batch_size, num_rows),
            max_length=num_first_ids(model.config, longest) + settings.max_tokens,
        )
        job = describe_job(model, tokenizer, settings, files.prompts)
        done = open_record(files.record, files.partial, job)
        with _append(files, num_rows, done, report) as rows:
            lines = read_prompts(files.prompts, model.config, tokenizer, done=done.indexes)
            prompts = rows.begin(lines)
            for index, completion in complete(model, tokenizer, prompts, settings, limits=limits):
                rows.add_completion(index, completion)
        _name_output(files)
    return JobCounts(rows.num_done - rows.num_failed, rows.num_failed)


def check_files(files: JobFiles) -> None:
    """Checks what can be checked without a model; see `run_batch_job`."""
    check_prompt_file(files.prompts)
    if not files.output.parent.is_dir():
        raise FileNotFoundError(f"{files.output.parent} is not a folder; create it for the output")
    require_writable(files.output.parent)
    _require_new(files.output)


def _require_new(output: Path) -> None:
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output or delete it")


def _measure(rows: Iterable[PromptRow]) -> tuple[int, int]:
    """The number of rows, and the tokens of the longest prompt."""
    num_rows = longest = 0
    for row in rows:
        num_rows, longest = num_rows + 1, max(longest, len(row.ids))
    return num_rows, longest


def _name_output(files: JobFiles) -> None:
    try:
        rename_to_new(files.partial, files.output)
    except FileExistsError as error:
        raise FileExistsError(
            f"{files.output} was made by another program while the job ran; the job's rows are in "
            f"{files.partial}; move {files.output.name} away and give the same command again"
        ) from error
    files.record.unlink()


@contextmanager
def _append(
    files: JobFiles,
    num_rows: int,
    done: DoneRows,
    report: Callable[[int, int], None] | None,
) -> Iterator["_Rows"]:
    """Yields what takes the rows; a block that ends without any leaves no file."""
    with files.partial.open("ab", buffering=0) as file:
        file.truncate(done.num_bytes)
        rows = _Rows(file, num_rows, done, report)
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


class _Rows:
    """Appends rows to the output, each written out at once."""

    def __init__(
        self,
        file: FileIO,
        num_rows: int,
        done: DoneRows,
        report: Callable[[int, int], None] | None,
    ) -> None:
        self.num_done, self.num_failed = len(done.indexes), done.num_failed
        self._file, self._num_rows, self._report = file, num_rows, report
        self._prompts: dict[int, str] = {}  # of the rows under way

    def begin(self, lines: Iterable[PromptRow]) -> Iterator[Prompt]:
        """Yields the good rows as they are asked for; the bad ones are written."""
        for row in lines:
            if row.error is None:
                self._prompts[row.index] = row.text
                yield Prompt(row.index, row.ids)
            else:
                self.num_failed += 1
                self._write({"index": row.index, "error": row.error})

    def add_completion(self, index: int, completion: Completion) -> None:
        self._write(
            {
                "index": index,
                "prompt": self._prompts.pop(index),
                "completion": completion.text,
                "finish_reason": completion.finish_reason,
                "num_prompt_tokens": completion.num_prompt_tokens,
                "num_tokens": len(completion.ids),
            }
        )

    def _write(self, row: dict[str, object]) -> None:
        left = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        while left:  # a disk that is nearly full takes a part
            left = left[self._file.write(left) :]
        self.num_done += 1
        if self._report is not None:
            self._report(self.num_done, self._num_rows)
