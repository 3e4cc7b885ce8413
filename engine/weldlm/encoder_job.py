"""Batch jobs of encoders: a file of texts in, an answer for each out.

Texts are answered in blocks of the input's order, packed by length within a block, and a block that
an interruption left unfinished is computed anew as a whole: what stands in a row does not depend on
where a job was stopped.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from weldlm.config import ModelConfig
from weldlm.encoding import encode_text
from weldlm.heads import Model
from weldlm.job_output import (
    JobCounts,
    JobFiles,
    JobRows,
    append_rows,
    check_output,
    name_output,
    require_new,
)
from weldlm.job_record import DoneRows, describe_job, open_record
from weldlm.prompt_file import check_prompt_file
from weldlm.sealed_folder import lock_file
from weldlm.text_file import decode_text, parse_json, require_whole_characters
from weldlm.tokenizer import Tokenizer

__all__ = ["EncoderJob", "TextRow", "check_text_files", "run_encoder_job", "stream_encoder_job"]

_EXPECTED = '{"text": text}'
_BLOCK = 1_024  # rows that are packed together

Encode: TypeAlias = Callable[[ModelConfig, Tokenizer, str], list[int]]
Answer: TypeAlias = Callable[[Sequence[Sequence[int]]], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """A line of the file."""

    index: int  # counts the lines from 0
    ids: Sequence[int] = ()
    error: str | None = None  # what is wrong with it


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderJob:
    """What is made of texts."""

    model: Model
    tokenizer: Tokenizer
    settings: Mapping[str, Any]  # what the answers depend on, for the record
    answer: Answer  # what a row holds beside its index, for each row of ids
    encode: Encode = encode_text

    def rows(self, path: Path) -> Iterator[TextRow]:
        """Yields the lines of a .txt file, or the texts of a .jsonl file."""
        with path.open("rb") as lines:
            for index, line in enumerate(lines):
                try:
                    text = _text(line, is_first=index == 0, is_json=path.suffix == ".jsonl")
                    ids = self.encode(self.model.config, self.tokenizer, text)
                    yield TextRow(index=index, ids=ids)
                except ValueError as error:
                    yield TextRow(index=index, error=str(error))


def run_encoder_job(
    job: EncoderJob,
    files: JobFiles,
    *,
    report: Callable[[int, int], None] | None = None,
    finish: Callable[[JobFiles], None] = name_output,
) -> JobCounts:
    """Answers every text of a file: {"index", ...the answer}, or {"index", "error"}.

    Args:
        job: what is made of texts.
        files: input, .txt with a text a line or .jsonl with {"text": text} a line, and output.
        report: called after each row with the number of rows done and of all rows.
        finish: makes the output of the rows, which are in `files.partial`.

    Raises:
        ValueError: the input is neither .txt nor .jsonl, or empty.
        FileNotFoundError: there is no such input, or no folder for the output.
        FileExistsError: the output, or what an interrupted other job left of it, is there already.
        BlockingIOError: another program works on the same output.
    """
    check_text_files(files)
    with lock_file(files.output):
        require_new(files.output)
        num_rows = _count(files.source)
        record = describe_job(job.model, job.tokenizer, job.settings, files.source)
        done = open_record(files.record, files.partial, record)
        with append_rows(files, num_rows, done, report) as rows:
            _answer_rows(job, files.source, rows, done=done.indexes)
        finish(files)
    return rows.counts


def stream_encoder_job(job: EncoderJob, source: Path, file: FileIO) -> JobCounts:
    """Writes the rows of `run_encoder_job` to a file that is open, such as a pipe."""
    done = DoneRows(frozenset(), 0, 0)
    rows = JobRows(file, _count(source), done, None)
    _answer_rows(job, source, rows, done=done.indexes)
    return rows.counts


def check_text_files(files: JobFiles) -> None:
    """Checks what can be checked without a model; see `run_encoder_job`."""
    check_prompt_file(files.source)
    check_output(files)


def _count(source: Path) -> int:
    with source.open("rb") as lines:
        num_rows = sum(1 for _ in lines)
    if num_rows == 0:
        raise ValueError(f"{source} is empty; expected one text a line")
    return num_rows


def _answer_rows(job: EncoderJob, source: Path, rows: JobRows, *, done: frozenset[int]) -> None:
    texts = job.rows(source)
    while block := list(islice(texts, _BLOCK)):
        if all(row.index in done for row in block):
            continue
        good = [row for row in block if row.error is None]
        found = job.answer([row.ids for row in good])
        answers = {row.index: answer for row, answer in zip(good, found, strict=True)}
        for row in block:
            if row.index in done:
                continue
            if row.error is None:
                rows.add({"index": row.index, **answers[row.index]})
            else:
                rows.add_error(row.index, row.error)


def _text(line: bytes, *, is_first: bool, is_json: bool) -> str:
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    text = decode_text(line, "the line", is_start=is_first)
    if is_json:
        fields = parse_json(text, "the line", expected=_EXPECTED)
        found = fields.get("text") if isinstance(fields, dict) else None
        if not isinstance(found, str):
            raise ValueError(f'the line has no text under "text"; expected {_EXPECTED}')
        require_whole_characters(found, "the text")
        text = found
    if not text:
        raise ValueError("the text is empty; expected at least one character")
    return text
