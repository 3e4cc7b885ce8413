"""From a file of labelled rows to what a run learns from, validates on and is judged on."""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weldlm.config import ModelConfig
from weldlm.data.row_files import read_labelled
from weldlm.data.rows import BadRow, keep_good
from weldlm.finetune.row_split import RowSplit, split_rows
from weldlm.finetune.settings import FinetuneSettings
from weldlm.tasks import (
    TASKS,
    EncodedRow,
    Task,
    TaskRecord,
    balanced_weights,
    build_task,
    encode_rows,
    known_aliases,
)
from weldlm.tokenizer import Tokenizer

__all__ = ["EncodedSplit", "SplitData", "encode_data", "read_data"]

_MORE_TOKENS = 1.25  # that may be written, for those of the longest answer
_FEWEST_TOKENS = 16


@dataclass(frozen=True, slots=True)
class SplitData:
    """Rows of a file, split, with what they say of the task."""

    rows: RowSplit
    record: TaskRecord
    labels: tuple[str, ...]  # of a classifier; none where it has none
    aliases: dict[str, str] = field(default_factory=dict)  # labels of the data under other names
    bad: list[BadRow] = field(default_factory=list)  # left out


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """The rows of `SplitData` as sequences."""

    task: Task
    record: TaskRecord
    train: list[EncodedRow]
    valid: list[EncodedRow]
    heldout: list[EncodedRow]
    bad: list[BadRow]  # left out, those of the file included


def read_data(path: Path, settings: FinetuneSettings, heldout: Path | None = None) -> SplitData:
    """Reads and splits the rows of a file or folder.

    Args:
        path: the rows.
        settings: the task, the shares and the columns.
        heldout: a file of the rows to judge on, in place of a share of `path`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see `read_labelled`, or there are too few rows, or labels.
    """
    kind = TASKS[settings.task]
    files = [
        read_labelled(
            file,
            kind.rows,
            text_columns=settings.text_columns,
            label_column=settings.label_column,
            on_error=settings.on_error,
        )
        for file in (path, *([] if heldout is None else [heldout]))
    ]
    rows = split_rows(
        files[0].rows,
        content=_content,
        label=_stratum if kind.rows in ("texts", "words") else _alike,
        valid=settings.valid,
        heldout=settings.held_out if heldout is None else 0.0,
    )
    if heldout is not None:
        rows = RowSplit(rows.train, rows.valid, files[1].rows)
    aliases = _aliases(settings, files[0].rows)
    record = TaskRecord(
        task=settings.task,
        too_long=settings.too_long or kind.too_long,
        max_length=settings.max_length,
        may_be_empty=kind.rows == "questions" and any(not row.answers for row in files[0].rows),
        columns=files[0].columns,
    )
    labels = _labels(kind.rows, files[0].rows, aliases)
    return SplitData(rows, record, labels, aliases, [bad for file in files for bad in file.bad])


def encode_data(
    data: SplitData, tokenizer: Tokenizer, config: ModelConfig, settings: FinetuneSettings
) -> EncodedSplit:
    """Encodes split rows for a model.

    Raises:
        ValueError: a row is too long, or has a label that no row to learn from has, and bad rows
            are not left out; or no row of a part is good.
    """
    record = _with_limits(data.record, config)
    options: dict[str, Any] = {}
    if record.kind.head == "sequence_classification":
        options = {"aliases": data.aliases}
    elif record.kind.head == "regression":
        numbers = np.array([float(row.label) for row in data.rows.train])
        options = {"center": float(numbers.mean()), "scale": float(numbers.std()) or 1.0}
    task = build_task(record, tokenizer, config, **options)
    parts: dict[str, list[EncodedRow]] = {}
    bad = list(data.bad)
    for name in ("train", "valid", "heldout"):
        rows = encode_rows(task, getattr(data.rows, name))
        parts[name], more = keep_good(rows, f"the {name} part", on_error=settings.on_error)
        bad += more
    if settings.class_weights == "balanced":
        labels = [data.labels.index(task.label(row)) for row in parts["train"]]  # type: ignore[attr-defined]
        options["class_weights"] = balanced_weights(labels, len(data.labels))
        task = build_task(record, tokenizer, config, **options)
    if record.kind.rows in ("targets", "chats"):
        record = _with_room(record, parts["train"])
        task = build_task(record, tokenizer, config)
    return EncodedSplit(task, record, **parts, bad=bad)


def _with_limits(record: TaskRecord, config: ModelConfig) -> TaskRecord:
    """The task's own limit on sequences, where neither the user nor the model has a lower one."""
    most = record.kind.most_tokens
    if record.max_length is not None or most is None or config.context_length <= most:
        return record
    return _changed(record, max_length=most)


def _with_room(record: TaskRecord, rows: Sequence[EncodedRow]) -> TaskRecord:
    """Room to write what is somewhat longer than the longest answer that was learned."""
    longest = max(
        len(row.pieces[0].target) if record.task == "seq2seq" else sum(row.pieces[0].is_answer)
        for row in rows
    )
    return _changed(record, max_tokens=max(int(longest * _MORE_TOKENS), _FEWEST_TOKENS))


def _changed(record: TaskRecord, **changes: Any) -> TaskRecord:
    return dataclasses.replace(record, **changes)


def _content(row: Any) -> str:
    """What two rows have in common that must not lie on both sides of the split."""
    for name in ("context", "source", "text"):
        if hasattr(row, name):
            return str(getattr(row, name)) + "\0" + str(getattr(row, "pair", ""))
    if hasattr(row, "words"):
        return " ".join(row.words)
    return json.dumps([message for message in row.messages if message["role"] != "assistant"])


def _stratum(row: Any) -> str:
    if hasattr(row, "tags"):
        return str(any(tag != "O" for tag in row.tags))
    return str(row.label)


def _alike(_row: Any) -> str:
    return ""


def _aliases(settings: FinetuneSettings, rows: Sequence[Any]) -> dict[str, str]:
    if settings.task != "sentiment":
        return {}
    labels = {row.label for row in rows}
    return known_aliases(labels) if len(labels) > 1 else {}


def _labels(kind: str, rows: Sequence[Any], aliases: dict[str, str]) -> tuple[str, ...]:
    if kind == "texts":
        found = {row.label for row in rows}
        if len(found) < 2:
            raise ValueError(
                f"all rows have the label {min(found)!a}; expected at least two labels; is "
                "label_column the right one?"
            )
        return tuple(aliases.get(label, label) for label in sorted(found, key=_natural))
    if kind == "words":
        return tuple(sorted({tag for row in rows for tag in row.tags}, key=_natural))
    return ("value",) if kind == "numbers" else ()


def _natural(label: str) -> list[tuple[int, str]]:
    """2 before 10."""
    parts = re.split(r"(\d+)", label)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
