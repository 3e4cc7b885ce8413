"""Batch jobs: a file of prompts in, a JSONL file of completions out.

Rows are appended to `<output>.partial` as they finish, and the file takes its name when all are
there: what bears that name is complete. The same job, started again after an interruption, does the
rows that are missing. A bad row becomes an error row; the others go on.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from io import FileIO
from pathlib import Path

from weldlm.completion_fields import completion_fields
from weldlm.engine import Engine
from weldlm.generation import BatchLimits, Completion, GenerativeModel
from weldlm.job_output import (
    JobCounts,
    JobFiles,
    JobRows,
    append_rows,
    check_output,
    name_output,
    require_new,
    take_back_errors,
)
from weldlm.job_record import DoneRows, describe_job, open_record
from weldlm.openai_api import ApiError, answer_call
from weldlm.prompt_file import PromptReader, PromptRow, check_prompt_file
from weldlm.sampling import SamplingSettings
from weldlm.sealed_folder import lock_file
from weldlm.tokenizer import Tokenizer

__all__ = [
    "JobCounts",
    "JobFiles",
    "check_files",
    "run_batch_job",
    "stream_batch_job",
]

_OF_ROWS = ("cache_dtype", "max_length", "is_batch_invariant")


def run_batch_job(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    files: JobFiles,
    settings: SamplingSettings,
    *,
    limits: BatchLimits | None = None,
    shard: tuple[int, int] | None = None,
    retries_errors: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> JobCounts:
    """Completes every prompt of a file; docs/batch-jobs.md says what the rows hold.

    Rows are written in the order in which they finish. Their index counts the lines of the input
    from 0; it is the row id of the draws.

    Args:
        model: a `CausalLM` or `Seq2SeqLM`.
        tokenizer: the model's.
        files: input, .txt with one prompt a line or .jsonl as `weldlm.prompt_file` says, and
            output, .jsonl.
        settings: how to choose tokens and when to end.
        limits: how much is under way at a time; `max_length` is cut to what the rows can grow to.
        shard: (i, n) does every n-th line from line i, for one of n jobs; `merge_outputs` joins
            them.
        retries_errors: the error rows of a job that is finished or interrupted are done again.
        report: called after each row with the number of rows done and of all rows.

    Raises:
        ValueError: the input is neither .txt nor .jsonl, or empty, or the batch does not fit into
            memory.
        FileNotFoundError: there is no such input, or no folder for the output, or nothing to retry.
        FileExistsError: the output, or what an interrupted other job left of it, is there already;
            or the output was made by somebody else while the job ran.
        BlockingIOError: another program works on the same output.
    """
    limits = BatchLimits() if limits is None else limits
    check_files(files, retries_errors=retries_errors)
    reader = PromptReader(model.config, tokenizer, settings, shard or (0, 1))
    with lock_file(files.output):
        if not retries_errors:
            require_new(files.output)  # the job that held the lock may have made it
        num_rows, cut = _measure(reader, files.source, limits)
        job = describe_job(model, tokenizer, asdict(settings) | _kept(limits), files.source)
        job = job if shard is None else {**job, "shard": list(shard)}
        if retries_errors:
            take_back_errors(files, job)
        done = open_record(files.record, files.partial, job)
        with append_rows(files, num_rows, done, report) as rows:
            lines = reader.read(files.source, done=done.indexes)
            _complete_rows(Engine(model, tokenizer, cut), lines, rows, reader, cut)
        # the record is what a retry and a merge go by
        name_output(files, keeps_record=shard is not None or rows.num_failed > 0)
    return rows.counts


def stream_batch_job(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    source: Path,
    file: FileIO,
    settings: SamplingSettings,
    *,
    limits: BatchLimits | None = None,
) -> JobCounts:
    """Writes the rows of `run_batch_job` to a file that is open, such as a pipe."""
    reader = PromptReader(model.config, tokenizer, settings)
    num_rows, limits = _measure(reader, source, limits or BatchLimits())
    rows = JobRows(file, num_rows, DoneRows(frozenset(), 0, 0), None)
    engine = Engine(model, tokenizer, limits)
    _complete_rows(engine, reader.read(source), rows, reader, limits)
    return rows.counts


def check_files(files: JobFiles, *, retries_errors: bool = False) -> None:
    """Checks what can be checked without a model; see `run_batch_job`."""
    check_prompt_file(files.source)
    check_output(files, is_new=not retries_errors)


def _kept(limits: BatchLimits) -> dict[str, object]:
    """The limits on which a row depends."""
    return {name: getattr(limits, name) for name in _OF_ROWS}


def _measure(reader: PromptReader, source: Path, limits: BatchLimits) -> tuple[int, BatchLimits]:
    """The number of rows, and limits for the longest.

    Raises:
        ValueError: a prompt needs more sequences than `batch_size`, or there is none.
    """
    num_rows, num_sequences, longest = 0, 0, 1
    settings, batch_size = reader.settings, limits.batch_size
    if settings.num_sequences > batch_size:
        raise ValueError(
            f"n, best_of or num_beams is {settings.num_sequences}; expected at most batch_size "
            f"{batch_size}; raise batch_size"
        )
    for row in reader.read(source):
        num_rows += 1
        if row.error is None:
            requests = row.requests(settings)
            num_sequences += sum(request.settings.num_sequences for request in requests)
            longest = max(longest, row.num_tokens(reader.config, settings))
    if num_rows == 0:
        raise ValueError(f"{source} is empty; expected one prompt a line")
    limits = replace(limits, batch_size=max(min(batch_size, num_sequences), 1))
    return num_rows, limits.cut_to(longest)


def _complete_rows(
    engine: Engine,
    lines: Iterable[PromptRow],
    rows: JobRows,
    reader: PromptReader,
    limits: BatchLimits,
) -> None:
    """Completes the prompts of lines, which are read as room appears, and writes their answers."""
    under_way = _RowsUnderWay(engine, rows, reader.settings)
    waiting = iter(lines)
    while True:
        while engine.counts.num_sequences < limits.batch_size:
            row = next(waiting, None)
            if row is None:
                break
            under_way.begin(row)
        if not engine.has_work:
            return
        for event in engine.step():
            if event.completion is not None:
                under_way.end(str(event.request_id), event.completion)


class _RowsUnderWay:
    """Joins completions with their rows; bad rows are written as errors."""

    def __init__(self, engine: Engine, rows: JobRows, settings: SamplingSettings) -> None:
        self._engine, self._rows, self._settings = engine, rows, settings
        self._lines: dict[int, PromptRow] = {}
        self._found: dict[int, dict[int, Completion]] = {}

    def begin(self, row: PromptRow) -> None:
        """Hands a row to the engine."""
        if row.error is not None:
            self._fail(row, row.error)
            return
        requests = row.requests(self._settings)
        try:
            for request in requests:
                self._engine.add(request)
        except ValueError as error:
            for request in requests:
                self._engine.abort(request.id)
            self._fail(row, ApiError(400, str(error)))
            return
        self._lines[row.index], self._found[row.index] = row, {}

    def end(self, request_id: str, completion: Completion) -> None:
        """Writes a row when its last prompt is completed."""
        index, place = map(int, request_id.split("/"))
        row, found = self._lines[index], self._found[index]
        found[place] = completion
        if row.call is None:
            self._rows.add({"index": row.index, **row.shown, **completion_fields(completion)})
        elif len(found) == len(row.call.prompts):
            completions = [found[place] for place in sorted(found)]
            # rows depend on the input alone, not on when they were made
            body = answer_call(row.call, f"cmpl-{index}", completions, created=0)
            self._rows.add({**_openai_row(row, 200, body), "error": None})
        else:
            return
        del self._lines[index], self._found[index]

    def _fail(self, row: PromptRow, error: ApiError) -> None:
        if not row.is_openai:
            self._rows.add_error(row.index, str(error))
            return
        shown = {"code": error.code or "invalid_request", "message": str(error)}
        self._rows.add_failed({**_openai_row(row, error.status, error.body), "error": shown})


def _openai_row(row: PromptRow, status: int, body: dict[str, object]) -> dict[str, object]:
    call_id = f"batch_req_{row.index}"
    response = {"status_code": status, "request_id": call_id, "body": body}
    return {"id": call_id, "index": row.index, **row.shown, "response": response}
