"""Batch jobs: a file of prompts in, a JSONL file of completions out.

Rows are appended to `<output>.partial` as they finish, and the file takes its name when all are
there: what bears that name is complete. The same job, started again after an interruption, does the
rows that are missing. A bad row becomes an error row; the others go on.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

from weldlm.generation import BatchLimits, Completion, GenerativeModel, complete
from weldlm.job_output import (
    JobCounts,
    JobFiles,
    JobRows,
    append_rows,
    check_output,
    name_output,
    require_new,
)
from weldlm.job_record import describe_job, open_record
from weldlm.prompt import Prompt, num_first_ids
from weldlm.prompt_file import PromptRow, check_prompt_file, read_prompts
from weldlm.sampling import SamplingSettings
from weldlm.sealed_folder import lock_file
from weldlm.token_logprobs import TokenLogprob
from weldlm.tokenizer import Tokenizer

__all__ = ["JobCounts", "JobFiles", "check_files", "run_batch_job"]


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
    index counts the lines of the input from 0; it is the row id of the draws. Where n is above 1,
    "others" holds the other completions; "score", "logprobs" and "prompt_logprobs" are there where
    the settings ask for them, a log-probability as [id, logprob, [[id, logprob] of the most
    probable tokens]].

    Args:
        model: a `CausalLM` or `Seq2SeqLM`.
        tokenizer: the model's.
        files: input, .txt with one prompt a line or .jsonl with one {"prompt": text} a line, and
            output, .jsonl.
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
        require_new(files.output)  # the job that held the lock may have made it
        num_rows, longest = _measure(read_prompts(files.source, model.config, tokenizer))
        if num_rows == 0:
            raise ValueError(f"{files.source} is empty; expected one prompt a line")
        limits = BatchLimits(
            batch_size=min(batch_size, num_rows * settings.num_sequences),
            max_length=num_first_ids(model.config, longest) + settings.max_tokens,
        )
        job = describe_job(model, tokenizer, asdict(settings), files.source)
        done = open_record(files.record, files.partial, job)
        with append_rows(files, num_rows, done, report) as rows:
            lines = read_prompts(files.source, model.config, tokenizer, done=done.indexes)
            under_way = _PromptsUnderWay(rows)
            prompts = under_way.begin(lines)
            for index, completion in complete(model, tokenizer, prompts, settings, limits=limits):
                under_way.end(index, completion)
        name_output(files)
    return rows.counts


def check_files(files: JobFiles) -> None:
    """Checks what can be checked without a model; see `run_batch_job`."""
    check_prompt_file(files.source)
    check_output(files)


def _measure(rows: Iterable[PromptRow]) -> tuple[int, int]:
    """The number of rows, and the tokens of the longest prompt."""
    num_rows = longest = 0
    for row in rows:
        num_rows, longest = num_rows + 1, max(longest, len(row.ids))
    return num_rows, longest


class _PromptsUnderWay:
    """Joins completions with their prompts; bad prompts are written as errors."""

    def __init__(self, rows: JobRows) -> None:
        self._rows = rows
        self._prompts: dict[int, str] = {}

    def begin(self, lines: Iterable[PromptRow]) -> Iterator[Prompt]:
        """Yields the good rows as they are asked for."""
        for row in lines:
            if row.error is None:
                self._prompts[row.index] = row.text
                yield Prompt(row.index, row.ids)
            else:
                self._rows.add_error(row.index, row.error)

    def end(self, index: int, completion: Completion) -> None:
        row = {
            "index": index,
            "prompt": self._prompts.pop(index),
            "num_prompt_tokens": completion.num_prompt_tokens,
            **_answer(completion),
        }
        if completion.prompt_logprobs is not None:
            row["prompt_logprobs"] = _plain(completion.prompt_logprobs)
        if completion.others:
            row["others"] = [_answer(other) for other in completion.others]
        self._rows.add(row)


def _answer(completion: Completion) -> dict[str, object]:
    """What is a completion's own."""
    answer: dict[str, object] = {
        "completion": completion.text,
        "finish_reason": completion.finish_reason,
        "num_tokens": len(completion.ids),
    }
    if completion.score is not None:
        answer["score"] = completion.score
    if completion.logprobs is not None:
        answer["logprobs"] = _plain(completion.logprobs)
    return answer


def _plain(logprobs: Iterable[TokenLogprob]) -> list[list[object]]:
    return [[one.id, one.logprob, [list(pair) for pair in one.top]] for one in logprobs]
