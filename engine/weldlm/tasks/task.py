"""What every task does with its rows: encodes them, learns from them, predicts, judges."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from weldlm.data.rows import BadRow
from weldlm.heads import Model
from weldlm.objectives import EncodedTexts, ExampleSet
from weldlm.packing import PackedBatch
from weldlm.tasks.encoding import EncodedRow, batches_of

__all__ = ["Prediction", "Task", "encode_rows", "forward_batches"]

Prediction: TypeAlias = dict[str, Any]  # as JSON holds it


class Task(ABC):
    """A kind of labelled data and what is made of it."""

    @abstractmethod
    def encode(self, row: Any) -> EncodedRow:
        """Makes sequences of a row.

        Raises:
            ValueError: it is too long, or its label is none of the task's.
        """

    @abstractmethod
    def examples(self, rows: Sequence[EncodedRow]) -> ExampleSet:
        """Makes of labelled rows what a model learns from."""

    @abstractmethod
    def predict(self, model: Any, rows: Sequence[EncodedRow]) -> list[Prediction]:
        """Returns what a model with the task's head says of each row."""

    @abstractmethod
    def judge(
        self, rows: Sequence[EncodedRow], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """Compares predictions with the labels of the rows."""


def encode_rows(task: Task, rows: Iterable[Any]) -> Iterator[EncodedRow | BadRow]:
    """Encodes rows; one that cannot be keeps its place beside the reason."""
    for row in rows:
        try:
            yield task.encode(row)
        except ValueError as error:
            yield BadRow(row.place, str(error))


def forward_batches(model: Model, texts: EncodedTexts) -> Iterator[tuple[PackedBatch, Tensor]]:
    """Yields all texts in batches, with what `model.logits` gives for each, fp32 on the host."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for indices in batches_of(texts):
            batch = texts.select(indices)
            with torch.inference_mode():
                logits = model.logits(batch.to(device))  # type: ignore[operator]
            yield batch, logits.float().cpu()
    finally:
        model.train(was_training)
