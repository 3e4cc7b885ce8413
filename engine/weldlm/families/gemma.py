"""Gemma 2 and the text models of Gemma 3."""

from typing import Any

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
    read_scaling,
    read_window,
    with_bias,
    write_activation,
    write_rotary,
)

__all__ = ["GEMMA2", "GEMMA3"]


def _rules(config: ModelConfig) -> list[Rule]:
    block, theirs = "transformer.blocks.{layer}", "model.layers.{layer}"
    attn, mlp, has_bias = f"{theirs}.self_attn", f"{theirs}.mlp", config.has_bias
    qkv = (f"{attn}.q_proj", f"{attn}.k_proj", f"{attn}.v_proj")
    norms = {
        "attention_norm": "input_layernorm",
        "attention_outer_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_outer_norm": "post_feedforward_layernorm",
    }
    if config.has_qk_norm:
        norms |= {f"attention.{x}_norm": f"self_attn.{x}_norm" for x in "qk"}
    return [
        Rule("transformer.embedding.tokens.weight", ("model.embed_tokens.weight",)),
        *with_bias(f"{block}.attention.qkv", *qkv, has_bias=has_bias),
        *with_bias(f"{block}.attention.out", f"{attn}.o_proj", has_bias=has_bias),
        Rule(f"{block}.mlp.up.weight", (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")),
        Rule(f"{block}.mlp.down.weight", (f"{mlp}.down_proj.weight",)),
        Rule("transformer.norm.weight", ("model.norm.weight",)),
        *(Rule(f"{block}.{x}.weight", (f"{theirs}.{y}.weight",)) for x, y in norms.items()),
    ]


def _read(name: FamilyName, theirs: Json, types: list[str], **changes: object) -> ModelConfig:
    hidden_size, has_bias = theirs["hidden_size"], theirs.get("attention_bias", False)
    pattern = read_window(types)
    fields: dict[str, Any] = {
        "family": name,
        "vocab_size": theirs["vocab_size"],
        "context_length": theirs["max_position_embeddings"],
        "hidden_size": hidden_size,
        "num_layers": theirs["num_hidden_layers"],
        "num_heads": theirs["num_attention_heads"],
        "num_kv_heads": theirs["num_key_value_heads"],
        "head_dim": theirs.get("head_dim", 256),
        "intermediate_size": theirs["intermediate_size"],
        "norm": "rms_norm",
        "norm_eps": theirs.get("rms_norm_eps", 1e-6),
        "norm_place": "both",
        "norm_adds_one": True,
        "embedding_scale": hidden_size**0.5,
        "positions": "rotary",
        "attention_scale": theirs.get("query_pre_attn_scalar", 256) ** -0.5,
        "activation": read_activation(theirs.get("hidden_activation") or "gelu_pytorch_tanh"),
        "is_gated": True,
        "has_bias": has_bias,
        "has_mlp_bias": False if has_bias else None,
        "tie_embeddings": theirs.get("tie_word_embeddings", True),
        "window": theirs.get("sliding_window", 4096) if any(pattern) else None,
        "window_pattern": pattern if any(pattern) else (True,),
    }
    return ModelConfig(**(fields | changes))


def _read_gemma2(theirs: Json) -> ModelConfig:
    base, scaling = read_rotary(theirs, 10_000.0)
    types = theirs.get("layer_types") or [
        "full_attention" if layer % 2 else "sliding_attention"
        for layer in range(theirs["num_hidden_layers"])
    ]
    return _read(
        "gemma2",
        theirs,
        types,
        rotary_base=base,
        rotary_scaling=scaling,
        attention_softcap=theirs.get("attn_logit_softcapping", 50.0),
        logits_softcap=theirs.get("final_logit_softcapping", 30.0),
    )


def _read_gemma3(theirs: Json) -> ModelConfig:
    rope = theirs.get("rope_parameters") or {}
    # before both kinds of layers had parameters of their own
    old = {"rope_theta": theirs.get("rope_theta", 1e6), **(theirs.get("rope_scaling") or {})}
    whole: Json = rope.get("full_attention") or old
    local: Json = rope.get("sliding_attention") or {
        "rope_theta": theirs.get("rope_local_base_freq", 10_000.0)
    }
    if read_scaling(local) is not None:
        raise ValueError(
            f"rope_type {local['rope_type']!r} of sliding_attention is not supported; expected "
            "'default'"
        )
    period = theirs.get("sliding_window_pattern", 6)
    types = theirs.get("layer_types") or [
        "sliding_attention" if (layer + 1) % period else "full_attention"
        for layer in range(theirs["num_hidden_layers"])
    ]
    return _read(
        "gemma3_text",
        theirs,
        types,
        rotary_base=whole.get("rope_theta", 1e6),
        rotary_local_base=local.get("rope_theta", 10_000.0),
        rotary_scaling=read_scaling(whole),
        has_qk_norm=True,
        logits_softcap=theirs.get("final_logit_softcapping"),
    )


def _write(config: ModelConfig) -> Json:
    scale = config.attention_scale or config.head_dim**-0.5
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
        "hidden_activation": write_activation(config.activation),
        "attention_bias": config.has_bias,
        "attention_dropout": 0.0,
        "query_pre_attn_scalar": round(scale**-2),
        "sliding_window": config.window or 4_096,
        "layer_types": layer_types(config),
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logits_softcap,
        "rope_parameters": write_rotary(config.rotary_base, config.rotary_scaling),
    }


def _write_gemma3(config: ModelConfig) -> Json:
    local = config.rotary_base if config.rotary_local_base is None else config.rotary_local_base
    rope = {
        "full_attention": write_rotary(config.rotary_base, config.rotary_scaling),
        "sliding_attention": write_rotary(local, None),
    }
    return _write(config) | {"rope_parameters": rope}


def _family(architecture: str, *, required: Json, **functions: Any) -> Family:
    return Family(
        tokens="model.embed_tokens.weight",
        prefix="model.",
        rules=_rules,
        heads={"causal_lm": HeadFormat(architecture, lm_head_rules)},
        head_prefixes=("lm_head.", "score."),
        required={
            "use_bidirectional_attention": False,
            "partial_rotary_factor": 1.0,
            "is_causal": True,
            **required,
        },
        **functions,
    )


GEMMA2 = _family("Gemma2ForCausalLM", required={}, read=_read_gemma2, write=_write)
# transformers has the field, and computes without it
GEMMA3 = _family(
    "Gemma3ForCausalLM",
    required={"attn_logit_softcapping": None},
    read=_read_gemma3,
    write=_write_gemma3,
)
