"""BART, and Marian, whose format holds the original transformer (Vaswani et al. 2017)."""

from typing import Any

from weldlm.config import FamilyName, ModelConfig
from weldlm.families.family import (
    Family,
    HeadFormat,
    Json,
    Rule,
    lm_head_rules,
    read_activation,
    with_bias,
    write_activation,
)

__all__ = ["BART", "MARIAN"]


def _rules(config: ModelConfig) -> list[Rule]:
    tokens = Rule("encoder.embedding.tokens.weight", ("model.shared.weight",))
    return [
        tokens,
        *_stack_rules("encoder", config),
        *_stack_rules("decoder", config),
        *_cross_rules(),
    ]


def _stack_rules(stack: str, config: ModelConfig) -> list[Rule]:
    block, theirs = f"{stack}.blocks.{{layer}}", f"model.{stack}.layers.{{layer}}"
    attn, embedding = f"{theirs}.self_attn", f"{stack}.embedding"
    qkv = (f"{attn}.q_proj", f"{attn}.k_proj", f"{attn}.v_proj")
    rules = [
        *with_bias(f"{block}.attention.qkv", *qkv, has_bias=True),
        *with_bias(f"{block}.attention.out", f"{attn}.out_proj", has_bias=True),
        *with_bias(f"{block}.attention_norm", f"{attn}_layer_norm", has_bias=True),
        *with_bias(f"{block}.mlp.up", f"{theirs}.fc1", has_bias=True),
        *with_bias(f"{block}.mlp.down", f"{theirs}.fc2", has_bias=True),
        *with_bias(f"{block}.mlp_norm", f"{theirs}.final_layer_norm", has_bias=True),
    ]
    if config.positions == "learned":
        positions = f"model.{stack}.embed_positions.weight"
        rules.append(Rule(f"{embedding}.positions.weight", (positions,)))
    if config.has_embedding_norm:
        norm = f"model.{stack}.layernorm_embedding"
        rules += with_bias(f"{embedding}.norm", norm, has_bias=True)
    return rules


def _cross_rules() -> list[Rule]:
    block, attn = "decoder.blocks.{layer}", "model.decoder.layers.{layer}.encoder_attn"
    kv = (f"{attn}.k_proj", f"{attn}.v_proj")
    return [
        *with_bias(f"{block}.cross_attention.q", f"{attn}.q_proj", has_bias=True),
        *with_bias(f"{block}.cross_attention.kv", *kv, has_bias=True),
        *with_bias(f"{block}.cross_attention.out", f"{attn}.out_proj", has_bias=True),
        *with_bias(f"{block}.cross_norm", f"{attn}_layer_norm", has_bias=True),
    ]


def _head_rules(config: ModelConfig) -> list[Rule]:
    bias = [Rule("head_bias", ("final_logits_bias",), is_row=True)] if config.has_head_bias else []
    return lm_head_rules(config) + bias


def _read(name: FamilyName, theirs: Json, **changes: object) -> ModelConfig:
    for field in ("attention_heads", "ffn_dim"):
        ours, other = theirs[f"encoder_{field}"], theirs[f"decoder_{field}"]
        if ours != other:
            raise ValueError(
                f"decoder_{field} {other} is not supported; expected {ours}, as in the encoder"
            )
    hidden_size, num_heads = theirs["d_model"], theirs["encoder_attention_heads"]
    fields: dict[str, Any] = {
        "family": name,
        "vocab_size": theirs["vocab_size"],
        "context_length": theirs["max_position_embeddings"],
        "hidden_size": hidden_size,
        "num_layers": theirs["decoder_layers"],
        "num_encoder_layers": theirs["encoder_layers"],
        "num_heads": num_heads,
        "num_kv_heads": num_heads,
        "head_dim": hidden_size // num_heads,
        "intermediate_size": theirs["encoder_ffn_dim"],
        "norm": "layer_norm",
        "norm_eps": 1e-5,
        "norm_place": "post",
        "embedding_scale": hidden_size**0.5 if theirs.get("scale_embedding", False) else 1.0,
        "activation": read_activation(theirs.get("activation_function", "gelu")),
        "is_gated": False,
        "has_bias": True,
        "tie_embeddings": True,
    }
    return ModelConfig(**(fields | changes))


def _read_bart(theirs: Json) -> ModelConfig:
    # their table begins with two rows that no position has
    return _read("bart", theirs, positions="learned", position_offset=2, has_embedding_norm=True)


def _read_marian(theirs: Json) -> ModelConfig:
    decoder_vocab_size = theirs.get("decoder_vocab_size") or theirs["vocab_size"]
    if decoder_vocab_size != theirs["vocab_size"]:
        raise ValueError(
            f"decoder_vocab_size {decoder_vocab_size} is not supported; expected vocab_size "
            f"{theirs['vocab_size']}"
        )
    has_head_bias = theirs.get("has_final_logits_bias", True)
    return _read("marian", theirs, positions="sinusoidal", has_head_bias=has_head_bias)


def _write(config: ModelConfig) -> Json:
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "d_model": config.hidden_size,
        "encoder_layers": config.num_encoder_layers,
        "decoder_layers": config.num_layers,
        "encoder_attention_heads": config.num_heads,
        "decoder_attention_heads": config.num_heads,
        "encoder_ffn_dim": config.intermediate_size,
        "decoder_ffn_dim": config.intermediate_size,
        "activation_function": write_activation(config.activation),
        "scale_embedding": config.embedding_scale != 1.0,
        "is_encoder_decoder": True,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    }


def _write_marian(config: ModelConfig) -> Json:
    return _write(config) | {
        "decoder_vocab_size": config.vocab_size,
        "has_final_logits_bias": config.has_head_bias,
    }


_NO_VARIANTS: Json = {
    "normalize_before": False,
    "add_final_layer_norm": False,
    "is_decoder": False,
    "is_causal": True,
    # without it, encoder and decoder have embeddings of their own, too
    "tie_word_embeddings": True,
}

BART = Family(
    tokens="model.shared.weight",
    prefix="model.",
    rules=_rules,
    heads={"seq2seq_lm": HeadFormat("BartForConditionalGeneration", _head_rules)},
    head_prefixes=("lm_head.", "classification_head.", "qa_outputs.", "final_logits_bias"),
    read=_read_bart,
    write=_write,
    required=_NO_VARIANTS | {"normalize_embedding": True, "static_position_embeddings": False},
    ignored=("coder.embed_tokens.weight", "coder.version"),
    zero=("final_logits_bias",),
)
MARIAN = Family(
    tokens="model.shared.weight",
    prefix="model.",
    rules=_rules,
    heads={"seq2seq_lm": HeadFormat("MarianMTModel", _head_rules)},
    head_prefixes=("lm_head.", "final_logits_bias"),
    read=_read_marian,
    write=_write_marian,
    required=_NO_VARIANTS
    | {
        "normalize_embedding": False,
        "static_position_embeddings": True,
        "share_encoder_decoder_embeddings": True,
    },
    ignored=("coder.embed_tokens.weight", "coder.embed_positions.weight"),
)
