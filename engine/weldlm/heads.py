"""What a transformer's hidden states are used for: here, predicting the next token."""

from torch import Tensor, nn
from torch.nn import functional

from weldlm.config import ModelConfig
from weldlm.layers import Cache
from weldlm.packing import PackedBatch
from weldlm.transformer import Transformer
from weldlm_kernels import linear_cross_entropy

__all__ = ["CausalLM"]


class CausalLM(nn.Module):
    """A decoder with a vocabulary head.

    The loss lives inside forward, so that wrappers which gather weights or hook gradients around
    forward (DDP, FSDP) see the whole computation.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.head: nn.Linear | None = None
        if not config.tie_embeddings:
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            nn.init.normal_(self.head.weight, std=config.hidden_size**-0.5)

    @property
    def head_weight(self) -> Tensor:
        """[vocab_size, hidden_size], the token embedding where they are tied."""
        return self.transformer.embedding.tokens.weight if self.head is None else self.head.weight

    def forward(self, batch: PackedBatch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the summed cross-entropy and the number of labels.

        Args:
            batch: T tokens.
            labels: [T] int64, the id that follows each token, -100 where there is none.

        Returns:
            loss_sum, an fp32 scalar in nats, and label_count, an int64 scalar.
        """
        return linear_cross_entropy(self.transformer(batch), self.head_weight, labels)

    def logits(self, batch: PackedBatch, cache: Cache | None = None) -> Tensor:
        """Returns the scores of the next token after every token, [T, vocab_size]."""
        return functional.linear(self.transformer(batch, cache), self.head_weight)

    def next_token_logits(self, batch: PackedBatch, cache: Cache | None = None) -> Tensor:
        """Returns the scores of the token after each sequence, [B, vocab_size].

        Every sequence of the batch holds at least one token.
        """
        last = self.transformer(batch, cache)[batch.offsets[1:].long() - 1]
        return functional.linear(last, self.head_weight)
