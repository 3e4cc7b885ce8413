"""Sizes of models by name."""

import dataclasses

from weldlm.config.model_config import FamilyName, ModelConfig, RotaryScaling

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


def _encoder(family: FamilyName, vocab_size: int, num_layers: int) -> ModelConfig:
    """BERT (Devlin et al. 2019, arXiv:1810.04805) and those that differ in a few fields."""
    return ModelConfig(
        family=family,
        vocab_size=vocab_size,
        context_length=512,
        hidden_size=768,
        num_layers=num_layers,
        num_heads=12,
        num_kv_heads=12,
        head_dim=64,
        intermediate_size=3_072,
        norm="layer_norm",
        norm_eps=1e-12,
        norm_place="post",
        has_embedding_norm=True,
        positions="learned",
        is_causal=False,
        activation="gelu",
        is_gated=False,
        has_bias=True,
        tie_embeddings=True,
        has_head_bias=True,
        has_transform=True,
        pooling="first",
        pad_id=0,
    )


def _modernbert() -> ModelConfig:
    """ModernBERT-base (Warner et al. 2024, arXiv:2412.13663)."""
    return dataclasses.replace(
        _encoder("modernbert", 50_368, 22),
        context_length=8_192,
        intermediate_size=1_152,
        norm_eps=1e-5,
        norm_place="pre",
        has_norm_bias=False,
        has_first_norm=False,
        positions="rotary",
        rotary_base=160_000.0,
        rotary_local_base=10_000.0,
        window=65,
        window_pattern=(False, True, True),
        is_gated=True,
        has_bias=False,
        pooling="mean",
        pooler="transform",
        bos_id=50_281,
        eos_id=50_282,
        pad_id=50_283,
    )


def _gemma(family: FamilyName, num_layers: int, hidden_size: int) -> ModelConfig:
    """What Gemma 2 and 3 share (arXiv:2408.00118, arXiv:2503.19786)."""
    return dataclasses.replace(
        _llama(num_layers, 8, 4, hidden_size, 9_216),
        family=family,
        vocab_size=256_000,
        context_length=8_192,
        head_dim=256,
        norm_eps=1e-6,
        norm_place="both",
        norm_adds_one=True,
        embedding_scale=hidden_size**0.5,
        attention_scale=256**-0.5,
        activation="gelu_tanh",
        tie_embeddings=True,
        window=4_096,
        window_pattern=(True, False),
        bos_id=2,
        eos_id=1,
        pad_id=0,
    )


def _gemma3_1b() -> ModelConfig:
    return dataclasses.replace(
        _gemma("gemma3_text", 26, 1_152),
        vocab_size=262_144,
        context_length=32_768,
        num_heads=4,
        num_kv_heads=1,
        intermediate_size=6_912,
        rotary_base=1_000_000.0,
        rotary_local_base=10_000.0,
        has_qk_norm=True,
        window=512,
        window_pattern=(True, True, True, True, True, False),
    )


def _t5(num_layers: int, num_heads: int, intermediate_size: int) -> ModelConfig:
    """T5 of width 512 (Raffel et al. 2020, arXiv:1910.10683)."""
    return ModelConfig(
        family="t5",
        vocab_size=32_128,
        context_length=512,
        hidden_size=512,
        num_layers=num_layers,
        num_encoder_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=64,
        intermediate_size=intermediate_size,
        norm="rms_norm",
        norm_eps=1e-6,
        positions="relative",
        num_relative_buckets=32,
        relative_max_distance=128,
        attention_scale=1.0,
        activation="relu",
        is_gated=False,
        has_bias=False,
        tie_embeddings=True,
        head_scale=512**-0.5,
        eos_id=1,
        pad_id=0,
        decoder_start_id=0,
    )


def _original(family: FamilyName, hidden_size: int, num_heads: int) -> ModelConfig:
    """The transformer of Vaswani et al. 2017 (arXiv:1706.03762), table 3."""
    return ModelConfig(
        family=family,
        vocab_size=37_000,
        context_length=512,
        hidden_size=hidden_size,
        num_layers=6,
        num_encoder_layers=6,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=4 * hidden_size,
        norm="layer_norm",
        norm_eps=1e-5,
        norm_place="post",
        embedding_scale=hidden_size**0.5,
        positions="sinusoidal",
        activation="relu",
        is_gated=False,
        has_bias=True,
        tie_embeddings=True,
        eos_id=0,
        pad_id=1,
        decoder_start_id=1,
    )


_LLAMA3_ROPE = RotaryScaling(
    kind="llama3",
    factor=32.0,
    low_frequency_factor=1.0,
    high_frequency_factor=4.0,
    original_context_length=8_192,
)
_GPT2: dict[str, ModelConfig] = {
    "gpt2": _gpt2(12, 12, 768),
    "gpt2-medium": _gpt2(24, 16, 1_024),
    "gpt2-large": _gpt2(36, 20, 1_280),
    "gpt2-xl": _gpt2(48, 25, 1_600),
    "gpt2-tiny": dataclasses.replace(_gpt2(4, 4, 256), context_length=512),
}
_LLAMA: dict[str, ModelConfig] = {
    "llama-tiny": dataclasses.replace(_llama(4, 4, 2, 256, 704), tie_embeddings=True),
    "llama-160m": _llama(12, 12, 4, 768, 2_048),
    "llama-1b": _llama(22, 32, 4, 2_048, 5_632),
    "llama-3.2-1b": dataclasses.replace(
        _llama(16, 32, 8, 2_048, 8_192),
        vocab_size=128_256,
        context_length=131_072,
        rotary_base=500_000.0,
        rotary_scaling=_LLAMA3_ROPE,
        tie_embeddings=True,
        bos_id=128_000,
        eos_id=128_001,
    ),
    "mistral-7b": dataclasses.replace(
        _llama(32, 32, 8, 4_096, 14_336), family="mistral", context_length=32_768, window=4_096
    ),
    "qwen2.5-0.5b": dataclasses.replace(
        _llama(24, 14, 2, 896, 4_864),
        family="qwen2",
        vocab_size=151_936,
        context_length=32_768,
        norm_eps=1e-6,
        rotary_base=1_000_000.0,
        has_qkv_bias=True,
        tie_embeddings=True,
        bos_id=151_643,
        eos_id=151_643,
    ),
    "qwen3-0.6b": dataclasses.replace(
        _llama(28, 16, 8, 1_024, 3_072),
        family="qwen3",
        vocab_size=151_936,
        context_length=40_960,
        head_dim=128,
        norm_eps=1e-6,
        rotary_base=1_000_000.0,
        has_qk_norm=True,
        tie_embeddings=True,
        bos_id=151_643,
        eos_id=151_645,
    ),
    "gemma2-2b": dataclasses.replace(
        _gemma("gemma2", 26, 2_304), attention_softcap=50.0, logits_softcap=30.0
    ),
    "gemma3-1b": _gemma3_1b(),
}
_ENCODERS: dict[str, ModelConfig] = {
    "bert-base": dataclasses.replace(
        _encoder("bert", 30_522, 12), num_token_types=2, pooler="tanh"
    ),
    "bert-tiny": dataclasses.replace(
        _encoder("bert", 8_192, 4),
        hidden_size=256,
        num_heads=4,
        num_kv_heads=4,
        intermediate_size=1_024,
        num_token_types=2,
        pooler="tanh",
    ),
    "roberta-base": dataclasses.replace(
        _encoder("roberta", 50_265, 12),
        norm_eps=1e-5,
        position_offset=2,
        num_token_types=1,
        pooler="tanh",
        bos_id=0,
        eos_id=2,
        pad_id=1,
    ),
    "distilbert-base": dataclasses.replace(_encoder("distilbert", 30_522, 6), pooler="relu"),
    "modernbert-base": _modernbert(),
}
_ENCODER_DECODERS: dict[str, ModelConfig] = {
    "t5-small": _t5(6, 8, 2_048),
    "t5-tiny": dataclasses.replace(
        _t5(3, 4, 1_024),
        vocab_size=8_192,
        hidden_size=256,
        head_scale=256**-0.5,
    ),
    "t5-v1.1-small": dataclasses.replace(
        _t5(8, 6, 1_024),
        activation="gelu_tanh",
        is_gated=True,
        tie_embeddings=False,
        head_scale=1.0,
    ),
    "bart-base": dataclasses.replace(
        _original("bart", 768, 12),
        vocab_size=50_265,
        context_length=1_024,
        has_embedding_norm=True,
        embedding_scale=1.0,
        positions="learned",
        position_offset=2,
        activation="gelu",
        bos_id=0,
        eos_id=2,
        pad_id=1,
        decoder_start_id=2,
    ),
    "transformer-base": _original("marian", 512, 8),
    "transformer-big": _original("marian", 1_024, 16),
}

PRESETS: dict[str, ModelConfig] = _GPT2 | _LLAMA | _ENCODERS | _ENCODER_DECODERS

# special ids, which another vocabulary has elsewhere
_NO_IDS: dict[str, object] = {
    "bos_id": None,
    "eos_id": None,
    "more_eos_ids": (),
    "pad_id": None,
    "decoder_start_id": None,
}


def preset(name: str, **changes: object) -> ModelConfig:
    """Returns the preset `name` with some fields changed.

    Another `vocab_size` leaves the special ids unset where they are not given too.

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
        changes = _NO_IDS | changes
    return dataclasses.replace(PRESETS[name], **changes)  # type: ignore[arg-type]
