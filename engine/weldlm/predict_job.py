"""Predictions for files of rows, as a batch job: each row becomes a prediction or an error.

Rows are answered in blocks of the input's order, and a block that an interruption left unfinished
is answered anew as a whole: what stands in a row does not depend on where a job was stopped.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from weldlm.data.columns import Columns, find_columns
from weldlm.data.row_files import FORMATS, Format, format_of, read_rows, to_typed
from weldlm.data.rows import BadRow, Row
from weldlm.heads import HEADS, Model
from weldlm.job_output import JobCounts, JobFiles, append_rows, check_output, name_output
from weldlm.job_output import require_new as require_new_output
from weldlm.job_record import describe_job, open_record
from weldlm.sealed_folder import lock_file
from weldlm.tasks import (
    EncodedRow,
    Prediction,
    TaskName,
    TaskRecord,
    build_task,
    read_task_record,
    task_of_head,
)
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained, open_model

__all__ = ["Predictor", "check_rows", "load_predictor", "predict_stream", "run_predict_job"]

Items = Iterable[Row | BadRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A model with its task, and where the texts of rows stand."""

    model: Model
    tokenizer: Tokenizer
    record: TaskRecord
    text_columns: tuple[str, ...] = ()  # those that it learned from, or by name, where empty
    batch_size: int = 32  # rows that are answered together

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; expected at least 1")

    @property
    def named_columns(self) -> tuple[str, ...]:
        """Columns by which a header is known."""
        learned = self.record.columns.texts if self.record.columns is not None else ()
        return (*self.text_columns, *(name for name in learned if not name.isdigit()))

    def columns(self, row: Row) -> Columns:
        """Where the texts of rows like this one stand.

        Raises:
            ValueError: it cannot be told, or there are fewer or more than the model takes.
        """
        learned = self.record.columns.texts if self.record.columns is not None else ()
        texts = self.text_columns
        if not texts and all(name in row.fields for name in learned):
            texts = learned
        if not texts and len(learned) == 1 and list(row.fields) == ["1"]:
            texts = ("1",)  # a table of texts alone
        found = find_columns([row], self.record.kind.rows, texts=texts, needs_label=False)
        if learned and len(found.texts) != len(learned):
            raise ValueError(
                f"{row.place} has {len(found.texts)} text columns, {', '.join(found.texts)}; "
                f"expected {len(learned)}, as the model learned from; name them with text_columns"
            )
        return Columns(found.texts, found.texts[0] if self.record.kind.rows == "chats" else None)


def load_predictor(
    path: Path, *, task: TaskName | None = None, device: str = "cpu", **options: Any
) -> Predictor:
    """Reads a fine-tuned model.

    Args:
        path: a model folder, the folder of a fine-tuning, or a file of a model.
        task: what the model does; as its folder says, or by its head, where None.
        device: where it computes.
        options: fields of `TaskRecord` and `Predictor` that differ from what the folder says.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: it is damaged, or its head is none of a task.
    """
    if not (path / "config.json").is_file() and (path / "model" / "config.json").is_file():
        path = path / "model"
    record = read_task_record(path) if path.is_dir() else None
    if record is None or (task is not None and task != record.task):
        name = task or task_of_head(open_model(path).head)
        record = TaskRecord(task=name, too_long="split" if name == "qa" else "error")
    names = {field.name for field in dataclasses.fields(TaskRecord)}
    changes = {name: options.pop(name) for name in list(options) if name in names}
    record = dataclasses.replace(record, **changes)
    model = load_pretrained(path, HEADS[record.kind.head], device=device).eval()
    tokenizer = Tokenizer.from_pretrained(path)
    return Predictor(model=model, tokenizer=tokenizer, record=record, **options)


def check_rows(files: JobFiles) -> None:
    """Checks what can be checked before the model is loaded; see `run_predict_job`."""
    format_of(files.source)
    if not files.source.is_file():
        raise FileNotFoundError(f"{files.source} does not exist; expected a file of rows")
    check_output(files)


def run_predict_job(
    predictor: Predictor,
    files: JobFiles,
    *,
    report: Callable[[int, int], None] | None = None,
) -> JobCounts:
    """Answers every row of a file: {"index", ...the prediction}, or {"index", "error"}.

    The index counts the rows of the input from 0.

    Args:
        predictor: the model and its task.
        files: rows of any format that `weldlm.data.row_files` knows, and the output, .jsonl.
        report: called after each row with the number of rows done and of all rows.

    Raises:
        ValueError: the input is of no known format, empty or damaged, or has no texts.
        FileNotFoundError: there is no such input, or no folder for the output.
        FileExistsError: the output, or what an interrupted other job left of it, is there already.
        BlockingIOError: another program works on the same output.
    """
    check_rows(files)
    named = predictor.named_columns
    with lock_file(files.output):
        require_new_output(files.output)
        num_rows = sum(1 for _ in read_rows(files.source, named))
        if num_rows == 0:
            raise ValueError(f"{files.source} is empty; expected at least one row")
        settings = {
            **dataclasses.asdict(predictor.record),
            "text_columns": predictor.text_columns,
            "batch_size": predictor.batch_size,
        }
        job = describe_job(predictor.model, predictor.tokenizer, settings, files.source)
        done = open_record(files.record, files.partial, job)
        with append_rows(files, num_rows, done, report) as rows:
            items = read_rows(files.source, named)
            for answered in _answer_blocks(predictor, items, done=done.indexes):
                for row in answered:
                    if "error" in row:
                        rows.add_error(row["index"], row["error"])
                    else:
                        rows.add(row)
        name_output(files)
    return rows.counts


def predict_stream(
    predictor: Predictor, source: BinaryIO, name: str, file_format: Format
) -> Iterator[dict[str, Any]]:
    """Yields the rows of `run_predict_job` for rows that are read once, such as those of a pipe."""
    items = FORMATS[file_format](source, name, predictor.named_columns)
    yield from chain.from_iterable(_answer_blocks(predictor, items, done=frozenset()))


def _answer_blocks(
    predictor: Predictor, items: Items, *, done: frozenset[int]
) -> Iterator[list[dict[str, Any]]]:
    """Answers of each block, less the rows in `done`."""
    columns: Columns | None = None
    numbered = enumerate(items)
    while block := list(islice(numbered, predictor.batch_size)):
        first = next((item for _, item in block if isinstance(item, Row)), None)
        if columns is None and first is not None:
            columns = predictor.columns(first)
        if all(index in done for index, _ in block):
            continue
        answers = _answer(predictor, [item for _, item in block], columns)
        yield [
            {"index": index, **answer}
            for (index, _), answer in zip(block, answers, strict=True)
            if index not in done
        ]


def _answer(
    predictor: Predictor, items: Sequence[Row | BadRow], columns: Columns | None
) -> list[Prediction]:
    task = build_task(predictor.record, predictor.tokenizer, predictor.model.config)
    encoded: list[EncodedRow | BadRow] = []
    for item in items:
        typed = item
        if isinstance(item, Row) and columns is not None:
            typed = to_typed(item, columns, predictor.record.kind.rows, needs_label=False)  # type: ignore[assignment]
        try:
            encoded.append(typed if isinstance(typed, BadRow) else task.encode(typed))
        except ValueError as error:
            encoded.append(BadRow(item.place, str(error)))
    predictions = iter(
        task.predict(predictor.model, [row for row in encoded if isinstance(row, EncodedRow)])
    )
    return [
        {"error": str(row)} if isinstance(row, BadRow) else next(predictions) for row in encoded
    ]
