"""The one transformer: embedding, blocks and a final norm, over packed sequences."""

import math

from torch import Tensor, nn

from weldlm.config import ModelConfig
from weldlm.layers import Block, Cache, Embedding, RotaryTable, build_norm
from weldlm.packing import PackedBatch

__all__ = ["Transformer"]

_INITIAL_STD = 0.02  # GPT-2 (Radford et al. 2019)


class Transformer(nn.Module):
    """Turns a packed batch into hidden states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = Embedding(config)
        self.table = RotaryTable(config) if config.positions == "rotary" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = build_norm(config)
        self._initialize(config.num_layers)

    def _initialize(self, num_layers: int) -> None:
        """Draws weights from N(0, 0.02), those that write into the stream scaled by depth."""
        for name, weight in self.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.down.weight")):
                nn.init.normal_(weight, std=_INITIAL_STD / math.sqrt(2 * num_layers))
            elif weight.dim() >= 2:
                nn.init.normal_(weight, std=_INITIAL_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, batch: PackedBatch, cache: Cache | None = None) -> Tensor:
        """Returns the normalized hidden states.

        Args:
            batch: T tokens of B sequences; positions below the context length.
            cache: keys and values of the sequences' earlier tokens, to which these are added.

        Returns:
            [T, hidden_size].
        """
        stream: Tensor = self.embedding(batch)
        update: Tensor | None = None
        for layer, block in enumerate(self.blocks):
            stream, update = block(
                stream, update, batch, layer=layer, cache=cache, table=self.table
            )
        if cache is not None:
            cache.advance(batch)
        assert update is not None  # num_layers is at least 1
        return self.norm.add(update, stream)[0]
