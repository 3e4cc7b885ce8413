"""The blocks that a transformer is made of, on packed sequences.

Every layer takes tokens end to end, [T, hidden_size]; what is a sequence is said by the batch. A
block hands on two tensors: the residual stream and the last sublayer's output, which the next norm
adds to the stream in the same pass.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldlm.config import Activation, ModelConfig
from weldlm.packing import PackedBatch
from weldlm_kernels import attention, layer_norm, rms_norm, rotary

__all__ = [
    "Attention",
    "Block",
    "Cache",
    "Embedding",
    "LayerNorm",
    "Mlp",
    "RMSNorm",
    "RotaryTable",
    "build_norm",
]

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "relu": functional.relu,
}


class Cache(Protocol):
    """Keys and values of the tokens that came before a batch."""

    def append(
        self, layer: int, k: Tensor, v: Tensor, batch: PackedBatch
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Adds a layer's keys and values of `batch`, each [T, num_kv_heads, head_dim].

        Returns:
            k and v of all tokens so far, sequences end to end [S, num_kv_heads, head_dim], their
            offsets [B + 1] int32 and the length of the longest.
        """

    def advance(self, batch: PackedBatch) -> None:
        """Counts the tokens of `batch` as past, after all layers added theirs."""


class LayerNorm(nn.Module):
    """Layer normalization of x, or of x + residual with the sum returned too."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, eps=self.eps)

    def add(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return layer_norm(x, self.weight, self.bias, residual=residual, eps=self.eps)


class RMSNorm(nn.Module):
    """Root-mean-square normalization of x, or of x + residual with the sum returned too."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, eps=self.eps)

    def add(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return rms_norm(x, self.weight, residual=residual, eps=self.eps)


def build_norm(config: ModelConfig) -> LayerNorm | RMSNorm:
    if config.norm == "layer_norm":
        return LayerNorm(config.hidden_size, config.norm_eps)
    return RMSNorm(config.hidden_size, config.norm_eps)


class RotaryTable(nn.Module):
    """cos and sin of position * base^(-2i / head_dim), [context_length, head_dim / 2], fp32."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim, self.base = config.head_dim, config.rotary_base
        self.context_length = config.context_length
        self._fill(torch.device("cpu"))

    def _fill(self, device: torch.device) -> None:
        exponents = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32)
        frequencies = 1.0 / self.base ** (exponents / self.head_dim)
        positions = torch.arange(self.context_length, device=device, dtype=torch.float32)
        angles = torch.outer(positions, frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "RotaryTable":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # a model in 16 bits keeps fp32 angles: rounding them would move far positions
        self._fill(self.cos.device)
        return self


class Embedding(nn.Module):
    """Token embedding, plus learned positions where the model has them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions: nn.Embedding | None = None
        if config.positions == "learned":
            self.positions = nn.Embedding(config.context_length, config.hidden_size)

    def forward(self, batch: PackedBatch) -> Tensor:
        hidden: Tensor = self.tokens(batch.ids)
        return hidden if self.positions is None else hidden + self.positions(batch.positions)


class Attention(nn.Module):
    """Multi-head attention with grouped key/value heads; q, k and v come from one projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim = config.head_dim
        width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        self.qkv = nn.Linear(config.hidden_size, width, bias=config.has_bias)
        self.out = nn.Linear(
            config.num_heads * config.head_dim, config.hidden_size, bias=config.has_bias
        )

    def forward(
        self,
        x: Tensor,
        batch: PackedBatch,
        *,
        layer: int,
        cache: Cache | None,
        table: RotaryTable | None,
    ) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [T, H + 2 Hkv, D]
        qk, v = heads.split((self.num_heads + self.num_kv_heads, self.num_kv_heads), dim=1)
        if table is not None:
            qk = rotary(qk, table.cos, table.sin, batch.positions)
        q, k = qk.split((self.num_heads, self.num_kv_heads), dim=1)
        k_offsets, k_max_length = batch.offsets, batch.max_length
        if cache is not None:
            k, v, k_offsets, k_max_length = cache.append(layer, k, v, batch)
        out, _ = attention(
            q,
            k,
            v,
            q_offsets=batch.offsets,
            k_offsets=k_offsets,
            q_max_length=batch.max_length,
            k_max_length=k_max_length,
            is_causal=True,
        )
        return self.out(out.flatten(1))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) with gate and up in one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.is_gated = config.is_gated
        width = config.intermediate_size * (2 if config.is_gated else 1)
        self.up = nn.Linear(config.hidden_size, width, bias=config.has_bias)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.has_bias)
        self.activation = _ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_gated:
            return self.down(self.activation(self.up(x)))  # type: ignore[no-any-return]
        gate, up = self.up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm attention and MLP around a residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = build_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = build_norm(config)
        self.mlp = Mlp(config)

    def forward(
        self,
        stream: Tensor,
        update: Tensor | None,
        batch: PackedBatch,
        *,
        layer: int,
        cache: Cache | None,
        table: RotaryTable | None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the stream and the MLP's output, which is not yet added to it."""
        if update is None:
            x = self.attention_norm(stream)
        else:
            x, stream = self.attention_norm.add(update, stream)
        update = self.attention(x, batch, layer=layer, cache=cache, table=table)
        x, stream = self.mlp_norm.add(update, stream)
        return stream, self.mlp(x)
