"""Multi-head attention of a sequence to itself, and of a decoder to its encoder."""

from typing import Any

from torch import Tensor, nn

from weldlm.config import ModelConfig
from weldlm.layers.context import LayerContext, Memory, Pages
from weldlm.layers.norm import build_norm
from weldlm.packing import PackedBatch
from weldlm_kernels import attention, attention_probabilities, paged_attention, rotary

__all__ = ["Attention", "CrossAttention"]


class Attention(nn.Module):
    """Self-attention with grouped key/value heads; q, k and v come from one projection."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim, self.is_causal = config.head_dim, config.is_causal
        self.window, self.scale = config.window_of(layer), config.attention_scale
        self.softcap = config.attention_softcap
        self.relative_max_distance = config.relative_max_distance
        width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        self.qkv = nn.Linear(config.hidden_size, width, bias=config.qkv_has_bias)
        self.out = nn.Linear(
            config.num_heads * config.head_dim, config.hidden_size, bias=config.has_bias
        )
        self.q_norm = build_norm(config, config.head_dim) if config.has_qk_norm else None
        self.k_norm = build_norm(config, config.head_dim) if config.has_qk_norm else None

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        q, k, v = self._heads(x, context)
        batch, cache, options = context.batch, context.cache, self._options(context)
        if cache is not None:
            out = _attend_pages(q, cache.append(self.layer, k, v), batch, options)
        else:
            out, _ = attention(
                q,
                k,
                v,
                q_offsets=batch.offsets,
                k_offsets=batch.offsets,
                q_max_length=batch.max_length,
                k_max_length=batch.max_length,
                **options,
            )
        return self.out(out.flatten(1))  # type: ignore[no-any-return]

    def probabilities(self, x: Tensor, context: LayerContext) -> list[Tensor]:
        """Materializes what `forward` weighs the values by: [H, T, T] of each sequence, fp32."""
        q, k, _ = self._heads(x, context)
        offsets = context.batch.offsets
        return attention_probabilities(
            q, k, q_offsets=offsets, k_offsets=offsets, **self._options(context)
        )

    def _options(self, context: LayerContext) -> dict[str, Any]:
        return {
            "is_causal": self.is_causal,
            "window": self.window,
            "scale": self.scale,
            "relative_bias": context.relative_bias,
            "relative_bias_max_distance": self.relative_max_distance,
            "relative_bias_is_bidirectional": not self.is_causal,
            "softcap": self.softcap,
        }

    def _heads(self, x: Tensor, context: LayerContext) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, H, D], k and v [T, Hkv, D], with positions where they are rotary."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [T, H + 2 Hkv, D]
        qk, v = heads.split((self.num_heads + self.num_kv_heads, self.num_kv_heads), dim=1)
        table = context.table
        if self.window is not None and context.local_table is not None:
            table = context.local_table
        if self.q_norm is not None and self.k_norm is not None:
            q, k = qk.split((self.num_heads, self.num_kv_heads), dim=1)
            q, k = self.q_norm(q), self.k_norm(k)
            if table is not None:
                positions = context.batch.positions
                q = rotary(q, table.cos, table.sin, positions)
                k = rotary(k, table.cos, table.sin, positions)
            return q, k, v
        if table is not None:
            qk = rotary(qk, table.cos, table.sin, context.batch.positions)
        q, k = qk.split((self.num_heads, self.num_kv_heads), dim=1)
        return q, k, v


class CrossAttention(nn.Module):
    """Attention of a decoder's tokens to the states of the encoder."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim, self.scale = layer, config.head_dim, config.attention_scale
        q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q = nn.Linear(config.hidden_size, q, bias=config.qkv_has_bias)
        self.kv = nn.Linear(config.hidden_size, 2 * kv, bias=config.qkv_has_bias)
        self.out = nn.Linear(q, config.hidden_size, bias=config.has_bias)

    def keys_and_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Of encoder states [S, hidden_size]; [S, num_kv_heads, head_dim] each."""
        k, v = self.kv(states).unflatten(-1, (-1, self.head_dim)).chunk(2, dim=1)
        return k, v

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        memory = _memory(context)
        k, v = self._memorized(memory)
        out, _ = attention(
            self._queries(x),
            k,
            v,
            q_offsets=context.batch.offsets,
            k_offsets=memory.offsets,
            q_max_length=context.batch.max_length,
            k_max_length=memory.max_length,
            is_causal=False,
            scale=self.scale,
        )
        return self.out(out.flatten(1))  # type: ignore[no-any-return]

    def probabilities(self, x: Tensor, context: LayerContext) -> list[Tensor]:
        """Materializes what `forward` weighs the values by: [H, T, S] of each pair, fp32."""
        memory = _memory(context)
        return attention_probabilities(
            self._queries(x),
            self._memorized(memory)[0],
            q_offsets=context.batch.offsets,
            k_offsets=memory.offsets,
            is_causal=False,
            scale=self.scale,
        )

    def _queries(self, x: Tensor) -> Tensor:
        return self.q(x).unflatten(-1, (-1, self.head_dim))  # type: ignore[no-any-return]

    def _memorized(self, memory: Memory) -> tuple[Tensor, Tensor]:
        if memory.keys_and_values:
            return memory.keys_and_values[self.layer]
        return self.keys_and_values(memory.states)


def _memory(context: LayerContext) -> Memory:
    if context.memory is None:
        raise ValueError("a decoder with cross-attention was called without encoder states")
    return context.memory


def _attend_pages(q: Tensor, pages: Pages, batch: PackedBatch, options: dict[str, Any]) -> Tensor:
    return paged_attention(
        q,
        pages.keys,
        pages.values,
        pages.block_table,
        pages.lengths,
        batch.offsets,
        q_max_length=batch.max_length,
        key_scale=pages.key_scale,
        value_scale=pages.value_scale,
        split_length=pages.split_length,
        **options,
    )
