"""One vector a sequence."""

from torch import Tensor
from torch.nn import functional

from weldlm.config import ModelConfig, Pooling
from weldlm.heads.model import Model, pool
from weldlm.packing import PackedBatch
from weldlm.transformer import Transformer

__all__ = ["SentenceEmbedder"]


class SentenceEmbedder(Model):
    """An encoder without a head; its pooled hidden states are the embedding."""

    kind = "embedding"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.transformer = Transformer(config)

    def forward(
        self, batch: PackedBatch, *, pooling: Pooling = "mean", is_normalized: bool = True
    ) -> Tensor:
        """Returns the embedding of each sequence, [B, hidden_size].

        Args:
            batch: B sequences of at least one token.
            pooling: which hidden state, or their mean.
            is_normalized: vectors have length 1.
        """
        pooled = pool(self.transformer(batch), batch, pooling)
        return functional.normalize(pooled, dim=-1) if is_normalized else pooled
