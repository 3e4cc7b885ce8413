"""Tasks whose answer is one label, or one number, for a text or a pair of texts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weldlm.data.labelled_rows import LabelledText
from weldlm.heads import Regressor, SequenceClassifier
from weldlm.objectives import LabelledSequences, ScoredSequences
from weldlm.task_metrics import judge_labels, judge_numbers
from weldlm.tasks.encoding import EncodedRow, Encoding, joined
from weldlm.tasks.task import Prediction, Task, forward_batches

__all__ = [
    "ClassificationTask",
    "RegressionTask",
    "balanced_weights",
    "encode_text",
    "known_aliases",
    "require_known",
]

_SENTIMENT = {"0": "negative", "1": "positive"}
_LABELS_SHOWN = 8
_DIGITS = 6  # of probabilities: the last bits depend on what else is in a batch


@dataclass(frozen=True, slots=True)
class ClassificationTask(Task):
    """One of several labels; of a text that is split, the one with the highest mean probability."""

    encoding: Encoding
    labels: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)  # labels of the data under other names
    # [labels], scales the loss of each label's rows; all alike where None
    class_weights: npt.NDArray[np.float32] | None = None

    def encode(self, row: LabelledText) -> EncodedRow:
        if row.label is not None:
            require_known(self._name(row.label), self.labels)
        return encode_text(row, self.encoding)

    def examples(self, rows: Sequence[EncodedRow]) -> LabelledSequences:
        labels = [self.labels.index(self.label(row)) for row in rows for _ in row.pieces]
        return LabelledSequences(joined(rows), np.array(labels, np.int64), self.class_weights)

    def predict(self, model: SequenceClassifier, rows: Sequence[EncodedRow]) -> list[Prediction]:
        parts = [logits.softmax(dim=1) for _, logits in forward_batches(model, joined(rows))]
        probabilities = _mean_of_pieces(torch.cat(parts), rows) if rows else torch.empty(0, 1)
        confidence, place = probabilities.max(dim=1)
        return [
            {"label": self.labels[index], "confidence": round(value, _DIGITS)}
            for index, value in zip(place.tolist(), confidence.tolist(), strict=True)
        ]

    def judge(
        self, rows: Sequence[EncodedRow], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        predicted = [prediction["label"] for prediction in predictions]
        return judge_labels(predicted, [self.label(row) for row in rows])

    def label(self, row: EncodedRow) -> str:
        """The true label of a row under the task's name."""
        return self._name(row.row.label)

    def _name(self, label: str) -> str:
        return self.aliases.get(label, label)


@dataclass(frozen=True, slots=True)
class RegressionTask(Task):
    """A number; a model learns (number - center) / scale until `RegressionTask.unscale`."""

    encoding: Encoding
    center: float = 0.0
    scale: float = 1.0

    def encode(self, row: LabelledText) -> EncodedRow:
        return encode_text(row, self.encoding)

    def examples(self, rows: Sequence[EncodedRow]) -> ScoredSequences:
        numbers = np.array([float(row.row.label) for row in rows for _ in row.pieces])
        scores = ((numbers - self.center) / self.scale).astype(np.float32)
        return ScoredSequences(joined(rows), scores[:, None])

    def predict(self, model: Regressor, rows: Sequence[EncodedRow]) -> list[Prediction]:
        parts = [logits for _, logits in forward_batches(model, joined(rows))]
        numbers = _mean_of_pieces(torch.cat(parts), rows) if rows else torch.empty(0, 1)
        return [
            {"value": round(value * self.scale + self.center, _DIGITS)}
            for value in numbers[:, 0].tolist()
        ]

    def judge(
        self, rows: Sequence[EncodedRow], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        predicted = [prediction["value"] for prediction in predictions]
        return judge_numbers(predicted, [float(row.row.label) for row in rows])

    def unscale(self, model: Regressor) -> None:
        """Changes the last layer of a model, in place, so that it gives the numbers themselves."""
        with torch.no_grad():
            model.classifier.weight.mul_(self.scale)
            model.classifier.bias.mul_(self.scale).add_(self.center)


def balanced_weights(labels: Sequence[int], num_labels: int) -> npt.NDArray[np.float32]:
    """A factor for each label that makes all weigh alike: rows / (labels * rows of the label)."""
    counts = np.bincount(labels, minlength=num_labels)
    return (len(labels) / (num_labels * np.maximum(counts, 1))).astype(np.float32)


def known_aliases(
    labels: Collection[str], names: Collection[str] = tuple(_SENTIMENT.values())
) -> dict[str, str]:
    """Words for the labels 0 and 1, where `labels` are no others and `names` are the words."""
    is_sentiment = set(labels) <= set(_SENTIMENT) and set(names) == set(_SENTIMENT.values())
    return dict(_SENTIMENT) if is_sentiment else {}


def encode_text(row: LabelledText, encoding: Encoding) -> EncodedRow:
    """A text or a pair; of a pair that is split, the longer text is read in parts."""
    whole = encoding.texts(row.text, row.pair)
    if not whole.input_ids:
        raise ValueError("the row has no token; expected a text that the tokenizer knows")
    if encoding.is_too_long(len(whole.input_ids)):
        is_split = encoding.too_long == "split"
        whole = encoding.texts(
            row.text,
            row.pair,
            max_length=encoding.most_tokens,
            truncation=_longer(row) if is_split else True,
            return_overflowing_tokens=is_split,
        )
    return EncodedRow(row, tuple(encoding.pieces(whole)))


def require_known(label: str, labels: Sequence[str]) -> None:
    """Refuses a label that is none of those a model has.

    Raises:
        ValueError: it is none.
    """
    if label not in labels:
        shown = ", ".join(labels[:_LABELS_SHOWN]) + (", ..." if labels[_LABELS_SHOWN:] else "")
        raise ValueError(
            f"the label {label!a} is none that was learned; expected one of {shown}; mend it or "
            "leave it out"
        )


def _longer(row: LabelledText) -> str:
    return "only_second" if row.pair is not None and len(row.pair) > len(row.text) else "only_first"


def _mean_of_pieces(values: Tensor, rows: Sequence[EncodedRow]) -> Tensor:
    """[pieces, n] to [rows, n]."""
    counts = [len(row.pieces) for row in rows]
    return torch.stack([part.mean(dim=0) for part in values.split(counts)])
