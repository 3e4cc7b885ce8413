"""The one transformer: embedding, blocks and a final norm, over packed sequences."""

import math
from dataclasses import replace

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from weldlm.config import ModelConfig
from weldlm.layers import (
    Block,
    Cache,
    Embedding,
    LayerContext,
    Memory,
    PackedEmbedding,
    RotaryTable,
    build_norm,
)
from weldlm.packing import PackedBatch

__all__ = ["Transformer", "set_activation_checkpointing"]

_INITIAL_STD = 0.02  # GPT-2 (Radford et al. 2019)

_ADVICE = {
    "vocab_size": "use the tokenizer that the model was trained with",
    "context_length": "shorten the sequence",
    "num_token_types": "give other token types, or none",
}


class Transformer(nn.Module):
    """Turns a packed batch into hidden states.

    Where the configuration has an encoder too, this is the decoder; the encoder is a transformer of
    `config.encoder`.
    """

    def __init__(
        self, config: ModelConfig, tokens: nn.Embedding | PackedEmbedding | None = None
    ) -> None:
        """Shares the token embedding `tokens` where given."""
        super().__init__()
        self.context_length = config.context_length
        self.checkpoints_activations = False
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

        Raises:
            ValueError: an id, position or token type is none that the model has (on a CPU; a GPU
                stops with an assertion of its own).
        """
        try:
            return self._run(batch, cache, memory)
        except IndexError:
            self._refuse_unknown(batch)
            raise

    def _run(self, batch: PackedBatch, cache: Cache | None, memory: Memory | None) -> Tensor:
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
        is_recomputed = self.checkpoints_activations and self.training and cache is None
        for block in self.blocks:
            if is_recomputed:
                stream, update = checkpoint(block, stream, update, context, use_reentrant=False)
            else:
                stream, update = block(stream, update, context)
        if self.norm is None or update is None:
            return stream
        return self.norm.add(update, stream)[0]

    def _refuse_unknown(self, batch: PackedBatch) -> None:
        """Raises where `batch` holds what no table of the model has."""
        tokens, types = self.embedding.tokens, self.embedding.token_types
        _refuse_outside("an id", batch.ids, tokens.num_embeddings, "vocab_size")
        _refuse_outside("the position", batch.positions, self.context_length, "context_length")
        if types is not None and batch.token_types is not None:
            _refuse_outside(
                "the token type", batch.token_types, types.num_embeddings, "num_token_types"
            )

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


def set_activation_checkpointing(model: nn.Module, is_on: bool) -> None:
    """Says of every transformer in `model` whether training keeps the inputs of its blocks alone.

    Backward then computes each block a second time, with the same random draws: the gradients are
    the same, bit for bit.
    """
    for module in model.modules():
        if isinstance(module, Transformer):
            module.checkpoints_activations = is_on


def _refuse_outside(what: str, values: Tensor, size: int, limit: str) -> None:
    outside = values[(values < 0) | (values >= size)]
    if len(outside):
        raise ValueError(
            f"the batch has {what} {outside[0].item()}; expected 0 to {size - 1}, the model's "
            f"{limit} being {size}; {_ADVICE[limit]}"
        )
