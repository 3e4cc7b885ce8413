"""What models are fine-tuned for: each task encodes rows, makes examples, predicts and judges."""

from weldlm.tasks.answering import AnsweringTask
from weldlm.tasks.classification import (
    ClassificationTask,
    RegressionTask,
    balanced_weights,
    known_aliases,
)
from weldlm.tasks.encoding import EncodedRow, Encoding, TooLong
from weldlm.tasks.kinds import TASKS, TaskKind, TaskName, task_of_head
from weldlm.tasks.tagging import TaggingTask
from weldlm.tasks.task import Prediction, Task, encode_rows
from weldlm.tasks.task_record import TASK_FILE, TaskRecord, build_task, read_task_record
from weldlm.tasks.writing import ChatTask, TargetTask

__all__ = [
    "TASKS",
    "TASK_FILE",
    "AnsweringTask",
    "ChatTask",
    "ClassificationTask",
    "EncodedRow",
    "Encoding",
    "Prediction",
    "RegressionTask",
    "TaggingTask",
    "TargetTask",
    "Task",
    "TaskKind",
    "TaskName",
    "TaskRecord",
    "TooLong",
    "balanced_weights",
    "build_task",
    "encode_rows",
    "known_aliases",
    "read_task_record",
    "task_of_head",
]
