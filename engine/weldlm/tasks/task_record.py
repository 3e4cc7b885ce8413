"""task.json of a model folder: what the model was fine-tuned for, so that it can be asked."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from weldlm.config import ModelConfig
from weldlm.data.columns import Columns
from weldlm.tasks.answering import AnsweringTask
from weldlm.tasks.classification import ClassificationTask, RegressionTask
from weldlm.tasks.encoding import Encoding, TooLong
from weldlm.tasks.kinds import TASKS, TaskKind, TaskName
from weldlm.tasks.tagging import TaggingTask
from weldlm.tasks.task import Task
from weldlm.tasks.writing import ChatTask, TargetTask
from weldlm.text_file import decode_text, parse_json
from weldlm.tokenizer import Tokenizer

__all__ = ["TASK_FILE", "TaskRecord", "build_task", "read_task_record"]

TASK_FILE = "task.json"
_EXPECTED = "the fields of a task, as weldlm finetune writes them"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task with what was chosen for it; its labels are those of the model's configuration."""

    task: TaskName
    too_long: TooLong
    max_length: int | None = None  # most tokens of a sequence
    max_tokens: int = 128  # most tokens that are written for a row
    may_be_empty: bool = False  # a question may have no answer
    columns: Columns | None = None  # of the data that the model learned from

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task is {self.task!r}; expected one of {', '.join(TASKS)}")
        if self.too_long not in get_args(TooLong):
            raise ValueError(f"too_long is {self.too_long!r}; expected error, truncate or split")

    @property
    def kind(self) -> TaskKind:
        return TASKS[self.task]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=2) + "\n"


def read_task_record(folder: Path) -> TaskRecord | None:
    """Reads the task of a model folder; None where it does not say one.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / TASK_FILE
    if not path.is_file():
        return None
    values = parse_json(decode_text(path.read_bytes(), str(path)), str(path), expected=_EXPECTED)
    try:
        columns = values.pop("columns")
        found = None if columns is None else Columns(tuple(columns["texts"]), columns["label"])
        return TaskRecord(**values, columns=found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no task ({error}); expected {_EXPECTED}") from error


def build_task(
    record: TaskRecord, tokenizer: Tokenizer, config: ModelConfig, **options: Any
) -> Task:
    """Makes the task that a record names, for a model with its head.

    Args:
        record: the task.
        tokenizer: the model's.
        config: the model's, with its labels.
        options: of the class of the task.
    """
    encoding = Encoding(
        tokenizer=tokenizer,
        config=config,
        too_long=record.too_long,
        max_length=record.max_length,
    )
    match record.kind.head:
        case "sequence_classification":
            return ClassificationTask(encoding, config.labels, **options)
        case "regression":
            return RegressionTask(encoding, **options)
        case "token_classification":
            return TaggingTask(encoding, config.labels)
        case "question_answering":
            return AnsweringTask(encoding, record.may_be_empty)
        case "seq2seq_lm":
            return TargetTask(encoding, record.max_tokens)
        case _:
            return ChatTask(encoding, record.max_tokens)
