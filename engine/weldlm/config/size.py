"""How many weights a configuration comes to, without building the model."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weldlm.config.model_config import ModelConfig

__all__ = ["count_parameters"]


def count_parameters(config: "ModelConfig") -> int:
    """Number of weights of the transformer and its vocabulary head."""
    hidden = config.hidden_size
    total = config.vocab_size * hidden * (1 if config.tie_embeddings else 2)
    total += _stack(config, config.num_layers, has_cross_attention=config.has_cross_attention)
    if config.num_encoder_layers:
        total += _stack(config, config.num_encoder_layers, has_cross_attention=False)
    total += config.vocab_size if config.has_head_bias else 0
    if config.has_transform:
        total += _linear(hidden, hidden, has_bias=config.has_bias) + _norm(config)
    return total


def _stack(config: "ModelConfig", num_layers: int, *, has_cross_attention: bool) -> int:
    """Blocks, positions, token types and norms, without the token embedding."""
    total = num_layers * _block(config, has_cross_attention=has_cross_attention)
    total -= 0 if config.has_first_norm else _norm(config)
    total += _norm(config) * (int(config.has_final_norm) + int(config.has_embedding_norm))
    total += config.num_token_types * config.hidden_size
    if config.positions == "learned":
        total += (config.context_length + config.position_offset) * config.hidden_size
    if config.positions == "relative":
        total += config.num_relative_buckets * config.num_heads
    return total


def _block(config: "ModelConfig", *, has_cross_attention: bool) -> int:
    hidden, inner = config.hidden_size, config.intermediate_size
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    up = 2 * inner if config.is_gated else inner
    attention = _linear(hidden, q + 2 * kv, has_bias=config.qkv_has_bias)
    attention += _linear(q, hidden, has_bias=config.has_bias)
    mlp = _linear(hidden, up, has_bias=config.mlp_has_bias)
    mlp += _linear(inner, hidden, has_bias=config.mlp_has_bias)
    total = attention + mlp + _norm(config) * (4 if config.norm_place == "both" else 2)
    total += 2 * config.head_dim if config.has_qk_norm else 0
    return total + (attention + _norm(config) if has_cross_attention else 0)


def _linear(inputs: int, outputs: int, *, has_bias: bool) -> int:
    return inputs * outputs + (outputs if has_bias else 0)


def _norm(config: "ModelConfig") -> int:
    has_bias = config.norm == "layer_norm" and config.has_norm_bias
    return config.hidden_size * (2 if has_bias else 1)
