"""The one transformer: embedding, blocks and a final norm, over packed sequences."""

import math
from dataclasses import replace

from torch import Tensor, nn

from weldlm.config import ModelConfig
from weldlm.layers import (
    Block,
    Cache,
    Embedding,
    LayerContext,
    Memory,
    RotaryTable,
    build_norm,
)
from weldlm.packing import PackedBatch

__all__ = ["Transformer"]

_INITIAL_STD = 0.02  # GPT-2 (Radford et al. 2019)


class Transformer(nn.Module):
    """Turns a packed batch into hidden states.

    Where the configuration has an encoder too, this is the decoder; the encoder is a transformer of
    `config.encoder`.
    """

    def __init__(self, config: ModelConfig, tokens: nn.Embedding | None = None) -> None:
        """Shares the token embedding `tokens` where given."""
        super().__init__()
        self.embedding = Embedding(config, tokens)
        self.table = self.local_table = None
        if config.positions == "rotary":
            self.table = RotaryTable(
                config.head_dim,
                config.context_length,
                base=config.rotary_base,
                scaling=config.rotary_scaling,
            )
            if config.rotary_local_base is not None:
                self.local_table = RotaryTable(
                    config.head_dim, config.context_length, base=config.rotary_local_base
                )
        self.relative_bias: nn.Embedding | None = None
        if config.positions == "relative":
            self.relative_bias = nn.Embedding(config.num_relative_buckets, config.num_heads)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = build_norm(config) if config.has_final_norm else None
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

    def forward(
        self, batch: PackedBatch, cache: Cache | None = None, memory: Memory | None = None
    ) -> Tensor:
        """Returns the normalized hidden states.

        Args:
            batch: T tokens of B sequences; positions below the context length.
            cache: keys and values of the sequences' earlier tokens, to which these are added.
            memory: of the encoder, for a decoder with cross-attention.

        Returns:
            [T, hidden_size].
        """
        context = LayerContext(
            batch=batch,
            cache=cache,
            memory=memory,
            table=self.table,
            local_table=self.local_table,
            relative_bias=None if self.relative_bias is None else self.relative_bias.weight,
        )
        stream: Tensor = self.embedding(batch)
        update: Tensor | None = None
        for block in self.blocks:
            stream, update = block(stream, update, context)
        if cache is not None:
            cache.advance(batch)
        if self.norm is None or update is None:
            return stream
        return self.norm.add(update, stream)[0]

    def memorize(self, memory: Memory) -> Memory:
        """Returns `memory` with the keys and values of every cross-attention, for decoding."""
        return replace(
            memory,
            keys_and_values=tuple(
                block.cross_attention.keys_and_values(memory.states)
                for block in self.blocks
                if isinstance(block, Block) and block.cross_attention is not None
            ),
        )
