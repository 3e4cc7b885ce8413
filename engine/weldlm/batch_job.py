"""Batch jobs: a file of prompts in, a JSONL file of completions out.

Rows are appended to `<output>.partial` as they finish, and the file takes its name when all are
there: what bears that name is complete. The same job, started again after an interruption, does the
rows that are missing. A bad row becomes an error row; the others go on.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from weldlm.generation import (
    BatchLimits,
    Completion,
    GenerativeModel,
    Prompt,
    complete,
    encode_prompt,
)
from weldlm.job_record import DoneRows, describe_job, open_record
from weldlm.sampling import SamplingSettings
from weldlm.tokenizer import Tokenizer

__all__ = ["JobCounts", "JobFiles", "run_batch_job"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
        ValueError: the input is neither .txt nor .jsonl, or empty.
        FileNotFoundError: there is no such input, or no folder for the output.
        FileExistsError: the output, or what an interrupted other job left of it, is there already.
    """
    num_rows = _check(files)
    job = describe_job(model, tokenizer, settings, files.prompts)
    done = open_record(files.record, files.partial, job)
    limits = BatchLimits(batch_size=batch_size)
    with files.partial.open("ab") as file:
        file.truncate(done.num_bytes)
        rows = _Rows(file, num_rows, done, report)
        try:
            prompts = _read_prompts(files.prompts, model, tokenizer, rows)
            for index, completion in complete(model, tokenizer, prompts, settings, limits=limits):
                rows.add_completion(index, completion)
            os.fsync(file.fileno())
        finally:
            if rows.num_done == 0:
                files.partial.unlink()
                files.record.unlink()
    files.partial.rename(files.output)
    files.record.unlink()
    return JobCounts(rows.num_done - rows.num_failed, rows.num_failed)


def _check(files: JobFiles) -> int:
    """Returns the number of rows, after checking what can be checked before the work."""
    if files.prompts.suffix not in _PROMPT_READERS:
        expected = " or ".join(_PROMPT_READERS)
        raise ValueError(f"{files.prompts} is not a file of prompts; expected a name in {expected}")
    if not files.prompts.is_file():
        raise FileNotFoundError(f"{files.prompts} does not exist; expected a file of prompts")
    if not files.output.parent.is_dir():
        raise FileNotFoundError(f"{files.output.parent} is not a folder; create it for the output")
    if files.output.exists():
        raise FileExistsError(f"{files.output} exists; choose another output or delete it")
    with files.prompts.open("rb") as lines:
        num_rows = sum(1 for _ in lines)
    if num_rows == 0:
        raise ValueError(f"{files.prompts} is empty; expected one prompt a line")
    return num_rows


class _Rows:
    """Appends rows to the output, each written out at once."""

    def __init__(
        self,
        file: IO[bytes],
        num_rows: int,
        done: DoneRows,
        report: Callable[[int, int], None] | None,
    ) -> None:
        self.num_done, self.num_failed = len(done.indexes), done.num_failed
        self._done = done.indexes
        self._file, self._num_rows, self._report = file, num_rows, report
        self._prompts: dict[int, str] = {}  # of the rows under way

    def has(self, index: int) -> bool:
        """Whether the row was done before the job was interrupted."""
        return index in self._done

    def begin(self, index: int, prompt: str) -> None:
        self._prompts[index] = prompt

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

    def add_error(self, index: int, error: ValueError) -> None:
        self.num_failed += 1
        self._write({"index": index, "error": str(error)})

    def _write(self, row: dict[str, object]) -> None:
        text = json.dumps(row, ensure_ascii=False) + "\n"
        self._file.write(text.encode("utf-8", "backslashreplace"))  # lone surrogates
        self._file.flush()
        self.num_done += 1
        if self._report is not None:
            self._report(self.num_done, self._num_rows)


def _read_prompts(
    path: Path, model: GenerativeModel, tokenizer: Tokenizer, rows: _Rows
) -> Iterator[Prompt]:
    """Yields the good rows as they are asked for; the bad ones go to `rows`."""
    read = _PROMPT_READERS[path.suffix]
    with path.open("rb") as lines:
        for index, line in enumerate(lines):
            if rows.has(index):
                continue
            try:
                prompt = read(_text_of(line, is_first=index == 0))
                ids = encode_prompt(model.config, tokenizer, prompt)
            except ValueError as error:
                rows.add_error(index, error)
                continue
            rows.begin(index, prompt)
            yield Prompt(index, ids)


def _text_of(line: bytes, *, is_first: bool) -> str:
    if is_first:
        line = line.removeprefix(_BYTE_ORDER_MARK)
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"the line is not UTF-8: {error}") from error


def _read_text(line: str) -> str:
    if not line:
        raise ValueError("the line is empty; expected a prompt")
    return line


def _read_json(line: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"the line is not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("the line is JSON nested too deep; expected {'prompt': text}") from error
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise ValueError('the line has no text under "prompt"; expected {"prompt": text}')
    return prompt


_PROMPT_READERS: dict[str, Callable[[str], str]] = {".txt": _read_text, ".jsonl": _read_json}
