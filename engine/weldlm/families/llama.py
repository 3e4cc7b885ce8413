"""Llama and the families that differ from it in a few fields: Mistral, Qwen2 and Qwen3."""

from collections.abc import Callable

from weldlm.config import FamilyName, ModelConfig
from weldlm.families.family import (
    Family,
    HeadFormat,
    Json,
    Rule,
    layer_types,
    lm_head_rules,
    read_activation,
    read_rotary,
    read_window,
    with_bias,
    write_activation,
    write_rotary,
)

__all__ = ["LLAMA", "MISTRAL", "QWEN2", "QWEN3"]

Changes = dict[str, object]


def _rules(config: ModelConfig) -> list[Rule]:
    block, theirs = "transformer.blocks.{layer}", "model.layers.{layer}"
    attn, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
    qkv = (f"{attn}.q_proj", f"{attn}.k_proj", f"{attn}.v_proj")
    rules = [
        Rule("transformer.embedding.tokens.weight", ("model.embed_tokens.weight",)),
        Rule(f"{block}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",)),
        *with_bias(f"{block}.attention.qkv", *qkv, has_bias=config.qkv_has_bias),
        *with_bias(f"{block}.attention.out", f"{attn}.o_proj", has_bias=config.has_bias),
        Rule(f"{block}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",)),
        *with_bias(
            f"{block}.mlp.up", f"{mlp}.gate_proj", f"{mlp}.up_proj", has_bias=config.mlp_has_bias
        ),
        *with_bias(f"{block}.mlp.down", f"{mlp}.down_proj", has_bias=config.mlp_has_bias),
        Rule("transformer.norm.weight", ("model.norm.weight",)),
    ]
    if config.has_qk_norm:
        rules += [
            Rule(f"{block}.attention.q_norm.weight", (f"{attn}.q_norm.weight",)),
            Rule(f"{block}.attention.k_norm.weight", (f"{attn}.k_norm.weight",)),
        ]
    return rules


def _read(name: FamilyName, theirs: Json, **changes: object) -> ModelConfig:
    base, scaling = read_rotary(theirs, 10_000.0)
    hidden_size, num_heads = theirs["hidden_size"], theirs["num_attention_heads"]
    fields: Changes = {
        "family": name,
        "vocab_size": theirs["vocab_size"],
        "context_length": theirs["max_position_embeddings"],
        "hidden_size": hidden_size,
        "num_layers": theirs["num_hidden_layers"],
        "num_heads": num_heads,
        "num_kv_heads": theirs.get("num_key_value_heads") or num_heads,
        "head_dim": theirs.get("head_dim") or hidden_size // num_heads,
        "intermediate_size": theirs["intermediate_size"],
        "norm": "rms_norm",
        "norm_eps": theirs.get("rms_norm_eps", 1e-6),
        "positions": "rotary",
        "rotary_base": base,
        "rotary_scaling": scaling,
        "activation": read_activation(theirs.get("hidden_act", "silu")),
        "is_gated": True,
        "has_bias": False,
        "tie_embeddings": theirs.get("tie_word_embeddings", False),
    }
    return ModelConfig(**(fields | changes))  # type: ignore[arg-type]


def _read_llama(theirs: Json) -> ModelConfig:
    has_bias, mlp_has_bias = theirs.get("attention_bias", False), theirs.get("mlp_bias", False)
    return _read(
        "llama",
        theirs,
        has_bias=has_bias,
        has_mlp_bias=None if mlp_has_bias == has_bias else mlp_has_bias,
    )


def _read_mistral(theirs: Json) -> ModelConfig:
    return _read("mistral", theirs, window=theirs.get("sliding_window", 4_096))


def _read_qwen2(theirs: Json) -> ModelConfig:
    return _read("qwen2", theirs, has_qkv_bias=True, **_read_qwen_window(theirs))


def _read_qwen3(theirs: Json) -> ModelConfig:
    return _read(
        "qwen3",
        theirs,
        has_bias=theirs.get("attention_bias", False),
        has_mlp_bias=False if theirs.get("attention_bias", False) else None,
        head_dim=theirs.get("head_dim", 128),
        has_qk_norm=True,
        **_read_qwen_window(theirs),
    )


def _read_qwen_window(theirs: Json) -> Changes:
    if not theirs.get("use_sliding_window", False):
        return {}
    first = theirs.get("max_window_layers", 28)
    layer_types = theirs.get("layer_types") or [
        "sliding_attention" if layer >= first else "full_attention"
        for layer in range(theirs["num_hidden_layers"])
    ]
    pattern = read_window(layer_types)
    return {"window": theirs["sliding_window"], "window_pattern": pattern} if any(pattern) else {}


def _write(config: ModelConfig) -> Json:
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": write_activation(config.activation),
        "attention_bias": config.has_bias,
        "attention_dropout": 0.0,
        "rope_theta": config.rotary_base,
        "rope_parameters": write_rotary(config.rotary_base, config.rotary_scaling),
    }


def _write_llama(config: ModelConfig) -> Json:
    return _write(config) | {"mlp_bias": config.mlp_has_bias}


def _write_mistral(config: ModelConfig) -> Json:
    return _write(config) | {"sliding_window": config.window}


def _write_qwen(config: ModelConfig) -> Json:
    return _write(config) | {
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "layer_types": layer_types(config),
    }


def _family(
    architecture: str,
    read: Callable[[Json], ModelConfig],
    write: Callable[[ModelConfig], Json],
    **required: object,
) -> Family:
    return Family(
        tokens="model.embed_tokens.weight",
        prefix="model.",
        rules=_rules,
        heads={"causal_lm": HeadFormat(architecture, lm_head_rules)},
        head_prefixes=("lm_head.", "score.", "qa_outputs."),
        read=read,
        write=write,
        required={"partial_rotary_factor": 1.0, "is_causal": True} | required,
        ignored=(".rotary_emb.inv_freq",),
    )


LLAMA = _family("LlamaForCausalLM", _read_llama, _write_llama, pretraining_tp=1)
MISTRAL = _family("MistralForCausalLM", _read_mistral, _write_mistral, attention_bias=False)
QWEN2 = _family("Qwen2ForCausalLM", _read_qwen2, _write_qwen)
QWEN3 = _family("Qwen3ForCausalLM", _read_qwen3, _write_qwen)
