"""Sizes of models by name."""

import dataclasses

from weldlm.config.model_config import ModelConfig

__all__ = ["PRESETS", "preset"]


def _gpt2(num_layers: int, num_heads: int, hidden_size: int) -> ModelConfig:
    return ModelConfig(
        family="gpt2",
        vocab_size=50_257,
        context_length=1_024,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=4 * hidden_size,
        norm="layer_norm",
        norm_eps=1e-5,
        positions="learned",
        activation="gelu_tanh",
        is_gated=False,
        has_bias=True,
        tie_embeddings=True,
        bos_id=50_256,
        eos_id=50_256,
    )


def _llama(
    num_layers: int, num_heads: int, num_kv_heads: int, hidden_size: int, intermediate_size: int
) -> ModelConfig:
    return ModelConfig(
        family="llama",
        vocab_size=32_000,
        context_length=2_048,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=intermediate_size,
        norm="rms_norm",
        norm_eps=1e-5,
        positions="rotary",
        activation="silu",
        is_gated=True,
        has_bias=False,
        tie_embeddings=False,
        bos_id=1,
        eos_id=2,
    )


PRESETS: dict[str, ModelConfig] = {
    "gpt2": _gpt2(12, 12, 768),
    "gpt2-medium": _gpt2(24, 16, 1_024),
    "gpt2-large": _gpt2(36, 20, 1_280),
    "gpt2-xl": _gpt2(48, 25, 1_600),
    "gpt2-tiny": dataclasses.replace(_gpt2(4, 4, 256), context_length=512),
    "llama-tiny": dataclasses.replace(_llama(4, 4, 2, 256, 704), tie_embeddings=True),
    "llama-160m": _llama(12, 12, 4, 768, 2_048),
    "llama-1b": _llama(22, 32, 4, 2_048, 5_632),
}


def preset(name: str, **changes: object) -> ModelConfig:
    """Returns the preset `name` with some fields changed.

    Another `vocab_size` leaves `bos_id` and `eos_id` unset where they are not given too.

    Raises:
        ValueError: no such preset or field.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} does not exist; expected one of {', '.join(PRESETS)}")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    unknown = sorted(set(changes) - known)
    if unknown:
        names = ", ".join(sorted(known))
        raise ValueError(f"ModelConfig has no field {unknown[0]!r}; it has {names}")
    if "vocab_size" in changes:
        changes = {"bos_id": None, "eos_id": None, **changes}
    return dataclasses.replace(PRESETS[name], **changes)  # type: ignore[arg-type]
