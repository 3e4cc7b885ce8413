"""A fine-tuned model's answers to labelled rows, and the figures made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weldlm.data.row_files import read_labelled
from weldlm.data.rows import OnError, keep_good
from weldlm.predict_job import Predictor
from weldlm.tasks import (
    ClassificationTask,
    EncodedRow,
    Prediction,
    Task,
    build_task,
    encode_rows,
    known_aliases,
)

__all__ = ["LabelledAnswers", "answer_labelled"]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelledAnswers:
    """Rows with their true labels, and what a model said of each."""

    task: Task
    rows: Sequence[EncodedRow]
    predictions: Sequence[Prediction]
    num_skipped: int = 0  # bad rows that were left out

    def measures(self) -> list[str]:
        """The names of the figures, the task's own first."""
        return list(self.task.judge(self.rows, self.predictions))

    def figure(self, name: str, indices: Indices) -> float:
        """One of the task's figures, of the rows with these indices."""
        rows, predictions = self.rows, self.predictions
        return self.task.judge([rows[i] for i in indices], [predictions[i] for i in indices])[name]

    def confidences(self) -> tuple[list[float], list[bool]] | None:
        """Of every answer, and whether it is right; None where answers are no labels."""
        if not isinstance(self.task, ClassificationTask):
            return None
        task = self.task
        pairs = list(zip(self.rows, self.predictions, strict=True))
        return (
            [prediction["confidence"] for _, prediction in pairs],
            [prediction["label"] == task.label(row) for row, prediction in pairs],
        )


def answer_labelled(
    predictor: Predictor,
    path: Path,
    *,
    label_column: str | None = None,
    on_error: OnError = "stop",
    report: Callable[[int, int], None] | None = None,
) -> LabelledAnswers:
    """Lets a fine-tuned model answer the rows of a file or folder that has their labels.

    Args:
        predictor: the model and its task.
        path: rows of any format that `weldlm finetune` takes.
        label_column: by name, or number from 1; found where None.
        on_error: "skip" leaves bad rows out.
        report: called with the number of rows done and of all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row is bad and not left out, or has a label that the model does not know.
    """
    columns = predictor.named_columns
    file = read_labelled(
        path,
        predictor.record.kind.rows,
        text_columns=predictor.text_columns or columns,
        label_column=label_column,
        on_error=on_error,
    )
    options: dict[str, Any] = {}
    if predictor.record.kind.head == "sequence_classification":
        options["aliases"] = known_aliases(
            {row.label for row in file.rows}, predictor.model.config.labels
        )
    task = build_task(predictor.record, predictor.tokenizer, predictor.model.config, **options)
    rows, bad = keep_good(encode_rows(task, file.rows), path, on_error=on_error)
    predictions: list[Prediction] = []
    for start in range(0, len(rows), predictor.batch_size):
        predictions += task.predict(predictor.model, rows[start : start + predictor.batch_size])
        if report is not None:
            report(len(predictions), len(rows))
    return LabelledAnswers(task, rows, predictions, len(file.bad) + len(bad))
