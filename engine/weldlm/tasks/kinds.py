"""The tasks by name: the rows they take, the head they give a model, how they are learned."""

from dataclasses import dataclass, field
from typing import Any, Literal

from weldlm.config import HeadKind
from weldlm.data.row_files import RowKind
from weldlm.tasks.encoding import TooLong

__all__ = ["TASKS", "TaskKind", "TaskName", "task_of_head"]

TaskName = Literal["sentiment", "classify", "tokens", "qa", "regression", "seq2seq", "instruct"]


@dataclass(frozen=True, slots=True)
class TaskKind:
    """What a task is made of, apart from data and model."""

    rows: RowKind
    head: HeadKind
    metric: str  # by which the best epoch is chosen; "loss" of the validation, or the task's own
    too_long: TooLong = "error"
    most_tokens: int | None = None  # of a sequence, by default
    settings: dict[str, Any] = field(default_factory=dict)  # of training, by default
    lr: float = 5e-5  # by default, of a model of width 768; in proportion to 1 / width


_COMMON = {
    "betas": (0.9, 0.999),
    "weight_decay": 0.01,
    "schedule": "linear",
    "min_lr_fraction": 0.0,
}
_LABEL = {**_COMMON, "epochs": 4, "rows_per_step": 16}
_SPAN = {**_COMMON, "epochs": 6, "rows_per_step": 16}
_WRITE = {**_COMMON, "epochs": 5, "rows_per_step": 16}
_CHAT = {**_COMMON, "epochs": 3, "rows_per_step": 8}

TASKS: dict[TaskName, TaskKind] = {
    "sentiment": TaskKind("texts", "sequence_classification", "accuracy", settings=_LABEL),
    "classify": TaskKind("texts", "sequence_classification", "accuracy", settings=_LABEL),
    "tokens": TaskKind("words", "token_classification", "f1", settings=_SPAN),
    "qa": TaskKind("questions", "question_answering", "f1", "split", 384, settings=_SPAN),
    "regression": TaskKind("numbers", "regression", "pearson", settings=_LABEL),
    "seq2seq": TaskKind("targets", "seq2seq_lm", "loss", settings=_WRITE, lr=1e-4),
    "instruct": TaskKind("chats", "causal_lm", "loss", settings=_CHAT),
}


def task_of_head(head: HeadKind) -> TaskName:
    """The task of a model that does not say its own.

    Raises:
        ValueError: none has that head.
    """
    names = [name for name, kind in TASKS.items() if kind.head == head and name != "sentiment"]
    if not names:
        heads = ", ".join({kind.head for kind in TASKS.values()})
        raise ValueError(
            f"the model's head is {head}, which no task has; expected one of {heads}; fine-tune it"
        )
    return names[0]
