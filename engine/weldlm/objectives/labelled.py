"""The example sets: a label, a number, labels of tokens, a span, a target or an answer each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weldlm.config import HeadKind, ModelConfig
from weldlm.objectives.examples import EncodedTexts, fingerprint
from weldlm.objectives.labels import IGNORED, causal_lm_labels, seq2seq_targets
from weldlm.objectives.micro_batch import MicroBatch
from weldlm.packing import PackedBatch

__all__ = [
    "AnswerSpans",
    "LabelledSequences",
    "LabelledTokens",
    "PromptAnswers",
    "ScoredSequences",
    "SourceTargets",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSequences:
    """A label for each text."""

    texts: EncodedTexts
    labels: Ints  # [N], place in the model's labels, -100 where there is none
    class_weights: Floats | None = None  # [num_labels], scales the loss of each label's examples
    head: ClassVar[HeadKind] = "sequence_classification"

    def __post_init__(self) -> None:
        _check_shape("labels", self.labels, (len(self.texts),))

    @property
    def lengths(self) -> Ints:
        return self.texts.lengths

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self, self.texts, self.labels, self.class_weights)

    def select(self, indices: Ints) -> MicroBatch:
        labels = self.labels[indices]
        arguments: tuple[PackedBatch | Tensor, ...] = (
            self.texts.select(indices),
            torch.from_numpy(labels),
        )
        if self.class_weights is not None:
            weights = np.where(labels >= 0, self.class_weights[labels.clip(0)], 0.0)
            arguments = (*arguments, torch.from_numpy(weights.astype(np.float32)))
        return MicroBatch(arguments, int((labels != IGNORED).sum()), indices)

    def check(self, config: ModelConfig) -> None:
        self.texts.check(config)
        _check_nonempty(self.texts)
        _check_labels(self.labels, len(config.labels), "example")
        if self.class_weights is not None:
            _check_shape("class_weights", self.class_weights, (len(config.labels),))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequences:
    """A number, or several, for each text."""

    texts: EncodedTexts
    scores: Floats  # [N, num_labels], NaN where there is none
    head: ClassVar[HeadKind] = "regression"

    def __post_init__(self) -> None:
        _check_shape("scores", self.scores, (len(self.texts), *self.scores.shape[1:]))
        if self.scores.ndim != 2:
            raise ValueError(f"scores {self.scores.shape}; expected [examples, numbers]")

    @property
    def lengths(self) -> Ints:
        return self.texts.lengths

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self, self.texts, self.scores)

    def select(self, indices: Ints) -> MicroBatch:
        scores = self.scores[indices].astype(np.float32)
        num_labels = int((~np.isnan(scores)).sum())
        return MicroBatch(
            (self.texts.select(indices), torch.from_numpy(scores)), num_labels, indices
        )

    def check(self, config: ModelConfig) -> None:
        self.texts.check(config)
        _check_nonempty(self.texts)
        if self.scores.shape[1] != len(config.labels):
            raise ValueError(
                f"scores {self.scores.shape}; expected a column for each of the model's "
                f"{len(config.labels)} labels"
            )
        if np.isinf(self.scores).any():
            index = int(np.isinf(self.scores).any(axis=1).argmax())
            raise ValueError(f"example {index} has an infinite score; expected finite numbers")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTokens:
    """A label for each token, or -100."""

    texts: EncodedTexts
    labels: Ints  # [T], place in the model's labels, -100 where there is none
    head: ClassVar[HeadKind] = "token_classification"

    def __post_init__(self) -> None:
        _check_shape("labels", self.labels, self.texts.ids.shape)

    @property
    def lengths(self) -> Ints:
        return self.texts.lengths

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self, self.texts, self.labels)

    def select(self, indices: Ints) -> MicroBatch:
        labels = torch.from_numpy(self.labels[self.texts.places(indices)])
        return MicroBatch.of_tokens(self.texts.select(indices), labels, sample_ids=indices)

    def check(self, config: ModelConfig) -> None:
        self.texts.check(config)
        _check_labels(self.labels, len(config.labels), "token")


@dataclass(frozen=True, slots=True, eq=False)
class AnswerSpans:
    """First and last token of what answers, in each text of a question and its context."""

    texts: EncodedTexts
    spans: Ints  # [N, 2], places in the text, both -100 where there is none
    head: ClassVar[HeadKind] = "question_answering"

    def __post_init__(self) -> None:
        _check_shape("spans", self.spans, (len(self.texts), 2))

    @property
    def lengths(self) -> Ints:
        return self.texts.lengths

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self, self.texts, self.spans)

    def select(self, indices: Ints) -> MicroBatch:
        spans = self.spans[indices]
        num_labels = int((spans >= 0).all(axis=1).sum())
        return MicroBatch(
            (self.texts.select(indices), torch.from_numpy(spans)), num_labels, indices
        )

    def check(self, config: ModelConfig) -> None:
        self.texts.check(config)
        _check_nonempty(self.texts)
        first, last = self.spans[:, 0], self.spans[:, 1]
        is_none = (self.spans == IGNORED).all(axis=1)
        is_inside = (first >= 0) & (first <= last) & (last < self.lengths)
        _check_all(
            is_none | is_inside,
            lambda index: (
                f"example {index} has the span {self.spans[index].tolist()}; expected "
                f"first and last token within its {self.lengths[index]} tokens, or -100 twice"
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SourceTargets:
    """A target to write for each source."""

    sources: EncodedTexts
    targets: EncodedTexts  # each with its end token
    start_id: int  # with which a decoder begins
    head: ClassVar[HeadKind] = "seq2seq_lm"

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.targets):
            raise ValueError(
                f"{len(self.sources)} sources and {len(self.targets)} targets; expected as many"
            )

    @property
    def lengths(self) -> Ints:
        return self.sources.lengths + self.targets.lengths

    @property
    def fingerprint(self) -> str:
        targets = self.targets
        start = np.array([self.start_id])
        return _fingerprint(self, self.sources, targets.ids, targets.offsets, start)

    def select(self, indices: Ints) -> MicroBatch:
        asked = self.targets.select(indices)
        pieces = asked.ids.split(asked.offsets.diff().tolist())
        target, labels = seq2seq_targets(pieces, self.start_id)
        return MicroBatch.of_tokens(
            self.sources.select(indices), target, labels, sample_ids=indices
        )

    def check(self, config: ModelConfig) -> None:
        self.sources.check(config, what="source")
        self.targets.check(config, what="target")
        if config.decoder_start_id != self.start_id:
            raise ValueError(
                f"start_id is {self.start_id}; expected the model's decoder_start_id, "
                f"{config.decoder_start_id}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class PromptAnswers:
    """Texts of which a decoder learns to write a part: answers, but not their prompts."""

    texts: EncodedTexts
    is_answer: npt.NDArray[np.bool_]  # [T], true where a token is to be written
    head: ClassVar[HeadKind] = "causal_lm"

    def __post_init__(self) -> None:
        _check_shape("is_answer", self.is_answer, self.texts.ids.shape)

    @property
    def lengths(self) -> Ints:
        return self.texts.lengths

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self, self.texts, self.is_answer)

    def select(self, indices: Ints) -> MicroBatch:
        batch = self.texts.select(indices)
        labels = causal_lm_labels(batch)
        is_answer = torch.from_numpy(self.is_answer[self.texts.places(indices)])
        labels[~is_answer.roll(-1)] = IGNORED
        return MicroBatch.of_tokens(batch, labels, sample_ids=indices)

    def check(self, config: ModelConfig) -> None:
        self.texts.check(config)


def _fingerprint(examples: object, texts: EncodedTexts, *arrays: npt.NDArray[Any] | None) -> str:
    kind = type(examples).__name__
    return fingerprint(kind, texts.ids, texts.offsets, texts.token_types, *arrays)


def _check_shape(name: str, array: npt.NDArray[Any], shape: Sequence[int]) -> None:
    if array.shape != tuple(shape):
        raise ValueError(f"{name} {array.shape}; expected {tuple(shape)}")


def _check_labels(labels: Ints, num_labels: int, what: str) -> None:
    _check_all(
        (labels == IGNORED) | (labels >= 0) & (labels < num_labels),
        lambda index: (
            f"{what} {index} has the label {labels[index]}; expected 0 to "
            f"{num_labels - 1}, or -100 for none"
        ),
    )


def _check_nonempty(texts: EncodedTexts) -> None:
    _check_all(
        texts.lengths > 0, lambda index: f"example {index} has no token; expected at least one"
    )


def _check_all(is_right: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> None:
    if not is_right.all():
        raise ValueError(describe(int((~is_right).argmax())))
