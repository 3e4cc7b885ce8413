"""Token ids to vectors."""

from torch import Tensor, nn

from weldlm.config import ModelConfig
from weldlm.layers.norm import build_norm
from weldlm.layers.packed import PackedEmbedding
from weldlm.layers.positions import SinusoidalTable
from weldlm.packing import PackedBatch

__all__ = ["Embedding"]


class Embedding(nn.Module):
    """Token embedding, plus positions, token types and a norm where the model has them."""

    def __init__(
        self, config: ModelConfig, tokens: nn.Embedding | PackedEmbedding | None = None
    ) -> None:
        """Shares `tokens` where given."""
        super().__init__()
        hidden_size, context_length = config.hidden_size, config.context_length
        self.tokens: nn.Embedding | PackedEmbedding = (
            nn.Embedding(config.vocab_size, hidden_size) if tokens is None else tokens
        )
        self.scale, self.position_offset = config.embedding_scale, config.position_offset
        self.positions: nn.Embedding | None = None
        self.table: SinusoidalTable | None = None
        self.token_types: nn.Embedding | None = None
        if config.positions == "learned":
            self.positions = nn.Embedding(context_length + config.position_offset, hidden_size)
        if config.positions == "sinusoidal":
            self.table = SinusoidalTable(hidden_size, context_length)
        if config.num_token_types:
            self.token_types = nn.Embedding(config.num_token_types, hidden_size)
        self.norm = build_norm(config) if config.has_embedding_norm else None

    def forward(self, batch: PackedBatch) -> Tensor:
        hidden: Tensor = self.tokens(batch.ids)
        if self.scale != 1.0:
            # rounded to the dtype of the weights, as the models that have it were trained
            hidden = hidden * hidden.new_full((), self.scale)
        if self.positions is not None:
            hidden = hidden + self.positions(batch.positions + self.position_offset)
        if self.table is not None:
            hidden = hidden + self.table.values[batch.positions].to(hidden.dtype)
        if self.token_types is not None:
            hidden = hidden + self._types(self.token_types, batch)
        return hidden if self.norm is None else self.norm(hidden)

    @staticmethod
    def _types(token_types: nn.Embedding, batch: PackedBatch) -> Tensor:
        """Tokens of a batch that names no types have the first."""
        if batch.token_types is None:
            return token_types.weight[0]
        return token_types(batch.token_types)  # type: ignore[no-any-return]
