"""Heads that judge a sequence or its tokens: labels, numbers, or a span that answers."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldlm.config import ModelConfig
from weldlm.heads.model import Model, Projection, Transform, pool
from weldlm.packing import PackedBatch
from weldlm.transformer import Transformer
from weldlm_kernels import linear_cross_entropy

__all__ = ["QuestionAnswerer", "Regressor", "SequenceClassifier", "TokenClassifier"]

_INITIAL_STD = 0.02


class _Pooler(nn.Module):
    """activation(dense(x)), or the transform of the vocabulary head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = torch.tanh if config.pooler == "tanh" else torch.relu

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x))


class _Classifier(Model):
    def __init__(self, config: ModelConfig, num_outputs: int) -> None:
        super().__init__(config)
        self.transformer = Transformer(config)
        self.pooler = self._build_pooler()
        self.classifier = nn.Linear(config.hidden_size, num_outputs)
        nn.init.normal_(self.classifier.weight, std=_INITIAL_STD)
        nn.init.zeros_(self.classifier.bias)

    def projection(
        self, batch: PackedBatch, labels: Tensor, weights: Tensor | None = None
    ) -> Projection:
        """Returns what the loss of classes is made of; arguments as of `forward`."""
        weight, bias = self.classifier.weight, self.classifier.bias
        return Projection(self._features(batch), weight, bias, labels, weights)

    def _build_pooler(self) -> nn.Module | None:
        return Transform(self.config) if self.config.pooler == "transform" else None

    def _features(self, batch: PackedBatch) -> Tensor:
        """What the classifier sees: a row a token."""
        return self._pooled(self.transformer(batch))

    def _pooled(self, hidden: Tensor) -> Tensor:
        return hidden if self.pooler is None else self.pooler(hidden)


class _SequenceHead(_Classifier):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, len(config.labels))

    def _build_pooler(self) -> nn.Module | None:
        config = self.config
        return _Pooler(config) if config.pooler in ("tanh", "relu") else super()._build_pooler()

    def _features(self, batch: PackedBatch) -> Tensor:
        """What the classifier sees: a row a sequence."""
        return self._pooled(pool(self.transformer(batch), batch, self.config.pooling))

    def logits(self, batch: PackedBatch) -> Tensor:
        """Returns the scores of the labels, [B, num_labels]."""
        return self.scores(self.transformer(batch), batch)

    def scores(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Returns the scores of the labels from hidden states [T, hidden_size]."""
        pooled = pool(hidden, batch, self.config.pooling)
        return self.classifier(self._pooled(pooled))  # type: ignore[no-any-return]


class SequenceClassifier(_SequenceHead):
    """One of `config.labels` for each sequence."""

    kind = "sequence_classification"

    def forward(
        self, batch: PackedBatch, labels: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the summed cross-entropy and the number of labels.

        Args:
            batch: B sequences of at least one token.
            labels: [B] int64, place in `config.labels`, -100 where there is none.
            weights: [B], a factor of the loss of each sequence; the number of labels is the same.
        """
        weight, bias = self.classifier.weight, self.classifier.bias
        features = self._features(batch)
        return linear_cross_entropy(features, weight, labels, bias=bias, row_weights=weights)


class Regressor(_SequenceHead):
    """A number for each name in `config.labels` and each sequence."""

    kind = "regression"

    def forward(self, batch: PackedBatch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the summed squared error and the count of numbers.

        Args:
            batch: B sequences of at least one token.
            labels: [B] or [B, num_labels], the numbers; NaN where there is none.
        """
        predicted = self.logits(batch).float()
        target = labels.float().view_as(predicted)
        is_labelled = ~target.isnan()
        error = torch.where(is_labelled, predicted - target.nan_to_num(), 0.0)
        return error.square().sum(), is_labelled.sum()


class TokenClassifier(_Classifier):
    """One of `config.labels` for each token."""

    kind = "token_classification"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, len(config.labels))

    def forward(self, batch: PackedBatch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the summed cross-entropy and the number of labels.

        Args:
            batch: T tokens.
            labels: [T] int64, place in `config.labels`, -100 where there is none.
        """
        weight, bias = self.classifier.weight, self.classifier.bias
        return linear_cross_entropy(self._features(batch), weight, labels, bias=bias)

    def logits(self, batch: PackedBatch) -> Tensor:
        """Returns the scores of the labels, [T, num_labels]."""
        return self.scores(self.transformer(batch))

    def scores(self, hidden: Tensor) -> Tensor:
        """Returns the scores of the labels from hidden states [T, hidden_size]."""
        return self.classifier(self._pooled(hidden))  # type: ignore[no-any-return]


class QuestionAnswerer(_Classifier):
    """First and last token of the span that answers, within each sequence."""

    kind = "question_answering"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, 2)

    def forward(self, batch: PackedBatch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the summed mean of both cross-entropies and the number of labelled sequences.

        Args:
            batch: B sequences of at least one token.
            labels: [B, 2] int64, places of the first and last token of the answer in the sequence,
                -100 where there is none.
        """
        log_probabilities = self._log_softmax(self.logits(batch).float(), batch)
        is_labelled = (labels >= 0).all(dim=1)
        rows = (labels + batch.offsets[:-1].long().unsqueeze(1))[is_labelled]
        chosen = log_probabilities.gather(0, rows)  # [labelled, 2]
        return -chosen.mean(dim=1).sum(), is_labelled.sum()

    def logits(self, batch: PackedBatch) -> Tensor:
        """Returns the scores of each token as the first and as the last, [T, 2]."""
        return self.classifier(self._features(batch))  # type: ignore[no-any-return]

    @staticmethod
    def _log_softmax(logits: Tensor, batch: PackedBatch) -> Tensor:
        """Over the tokens of each sequence, [used tokens, 2]."""
        offsets = batch.offsets.long()
        parts = logits[: int(offsets[-1])].split(offsets.diff().tolist())
        return torch.cat([logits[:0], *(functional.log_softmax(part, dim=0) for part in parts)])
