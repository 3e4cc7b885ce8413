"""Heads over the vocabulary: the next token, or a masked one."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldlm.config import ModelConfig
from weldlm.heads.model import Model, Projection, Transform
from weldlm.layers import Cache, PackedEmbedding, PackedLinear
from weldlm.packing import PackedBatch
from weldlm.transformer import Transformer
from weldlm_kernels import linear_cross_entropy

__all__ = ["CausalLM", "MaskedLM", "VocabularyModel"]

_PACKED = (PackedLinear, PackedEmbedding)


class VocabularyModel(Model):
    """Scores of tokens from hidden states, with a weight of its own or the embedding's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.head: nn.Linear | PackedLinear | None = None
        self.head_bias: nn.Parameter | None = None

    def _add_head(self) -> None:
        config = self.config
        if not config.tie_embeddings:
            head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            nn.init.normal_(head.weight, std=config.hidden_size**-0.5)
            self.head = head
        if config.has_head_bias:
            self.head_bias = nn.Parameter(torch.zeros(config.vocab_size))

    @property
    def tokens(self) -> nn.Embedding | PackedEmbedding:
        """The token embedding."""
        raise NotImplementedError

    @property
    def head_weight(self) -> Tensor:
        """[vocab_size, hidden_size], the token embedding where they are tied.

        Of a packed head it is a copy in fp32.
        """
        layer = self.scorer
        return layer.dequantized() if isinstance(layer, _PACKED) else layer.weight

    @property
    def scorer(self) -> nn.Linear | nn.Embedding | PackedLinear | PackedEmbedding:
        """The layer by whose weight tokens are scored."""
        return self.tokens if self.head is None else self.head

    def _loss(self, projection: Projection) -> tuple[Tensor, Tensor]:
        hidden, weight, bias, labels, _ = projection
        softcap = self.config.logits_softcap
        return linear_cross_entropy(hidden, weight, labels, bias=bias, softcap=softcap)

    def _projection(self, hidden: Tensor, labels: Tensor) -> Projection:
        return Projection(self._scaled(hidden), self.head_weight, self.head_bias, labels)

    def scores(self, hidden: Tensor) -> Tensor:
        """Returns the scores of tokens from normalized hidden states, [N, vocab_size]."""
        hidden, layer = self._scaled(hidden), self.scorer
        if isinstance(layer, _PACKED):
            logits = layer.scores(hidden, self.head_bias)
        else:
            logits = functional.linear(hidden, layer.weight, self.head_bias)
        softcap = self.config.logits_softcap
        return logits if softcap is None else softcap * torch.tanh(logits / softcap)

    def _scaled(self, hidden: Tensor) -> Tensor:
        scale = self.config.head_scale
        return hidden if scale == 1.0 else hidden * scale


class CausalLM(VocabularyModel):
    """A decoder that predicts the next token."""

    kind = "causal_lm"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if not config.is_decoder:
            raise ValueError(
                f"the {config.family} configuration is of an encoder or has one; expected a decoder"
            )
        self.transformer = Transformer(config)
        self._add_head()

    @property
    def tokens(self) -> nn.Embedding | PackedEmbedding:
        return self.transformer.embedding.tokens

    def forward(self, batch: PackedBatch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the summed cross-entropy and the number of labels.

        Args:
            batch: T tokens.
            labels: [T] int64, the id that follows each token, -100 where there is none.

        Returns:
            loss_sum, an fp32 scalar in nats, and label_count, an int64 scalar.
        """
        return self._loss(self.projection(batch, labels))

    def projection(self, batch: PackedBatch, labels: Tensor) -> Projection:
        """Returns what the loss is made of; arguments as of `forward`."""
        return self._projection(self.transformer(batch), labels)

    def logits(self, batch: PackedBatch, cache: Cache | None = None) -> Tensor:
        """Returns the scores of the next token after every token, [T, vocab_size]."""
        return self.scores(self.transformer(batch, cache))

    def next_token_logits(self, batch: PackedBatch, cache: Cache | None = None) -> Tensor:
        """Returns the scores of the token after each sequence, [B, vocab_size].

        Every sequence of the batch holds at least one token.
        """
        return self.scores(self.transformer(batch, cache)[batch.offsets[1:].long() - 1])


class MaskedLM(VocabularyModel):
    """An encoder that predicts tokens which were hidden from it."""

    kind = "masked_lm"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.transformer = Transformer(config)
        self.transform = Transform(config) if config.has_transform else None
        self._add_head()

    @property
    def tokens(self) -> nn.Embedding | PackedEmbedding:
        return self.transformer.embedding.tokens

    def forward(self, batch: PackedBatch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the summed cross-entropy and the number of labels.

        Only labelled rows pass the head.

        Args:
            batch: T tokens.
            labels: [T] int64, the id that stood where a token was hidden, -100 elsewhere.

        Returns:
            loss_sum, an fp32 scalar in nats, and label_count, an int64 scalar.
        """
        return self._loss(self.projection(batch, labels))

    def projection(self, batch: PackedBatch, labels: Tensor) -> Projection:
        """Returns what the loss is made of, labelled rows alone; arguments as of `forward`."""
        is_labelled = labels != -100
        hidden = self.transformer(batch)[is_labelled]
        return self._projection(self._transformed(hidden), labels[is_labelled])

    def logits(self, batch: PackedBatch) -> Tensor:
        """Returns the scores of what stands at each place, [T, vocab_size]."""
        return self.scores(self.transformer(batch))

    def scores(self, hidden: Tensor) -> Tensor:
        """Returns the scores of tokens from hidden states, [N, vocab_size]."""
        return super().scores(self._transformed(hidden))

    def _transformed(self, hidden: Tensor) -> Tensor:
        return hidden if self.transform is None else self.transform(hidden)
