"""GPT-2."""

from weldlm.config import ModelConfig
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

__all__ = ["GPT2"]


def _rules(_: ModelConfig) -> list[Rule]:
    block, h = "transformer.blocks.{layer}", "transformer.h.{layer}"
    return [
        Rule("transformer.embedding.tokens.weight", ("transformer.wte.weight",)),
        Rule("transformer.embedding.positions.weight", ("transformer.wpe.weight",)),
        *with_bias(f"{block}.attention_norm", f"{h}.ln_1", has_bias=True),
        *with_bias(f"{block}.attention.qkv", f"{h}.attn.c_attn", has_bias=True, is_transposed=True),
        *with_bias(f"{block}.attention.out", f"{h}.attn.c_proj", has_bias=True, is_transposed=True),
        *with_bias(f"{block}.mlp_norm", f"{h}.ln_2", has_bias=True),
        *with_bias(f"{block}.mlp.up", f"{h}.mlp.c_fc", has_bias=True, is_transposed=True),
        *with_bias(f"{block}.mlp.down", f"{h}.mlp.c_proj", has_bias=True, is_transposed=True),
        *with_bias("transformer.norm", "transformer.ln_f", has_bias=True),
    ]


def _read(theirs: Json) -> ModelConfig:
    hidden_size, num_heads = theirs["n_embd"], theirs["n_head"]
    return ModelConfig(
        family="gpt2",
        vocab_size=theirs["vocab_size"],
        context_length=theirs["n_positions"],
        hidden_size=hidden_size,
        num_layers=theirs["n_layer"],
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=theirs.get("n_inner") or 4 * hidden_size,
        norm="layer_norm",
        norm_eps=theirs.get("layer_norm_epsilon", 1e-5),
        positions="learned",
        activation=read_activation(theirs.get("activation_function", "gelu_new")),
        is_gated=False,
        has_bias=True,
        tie_embeddings=theirs.get("tie_word_embeddings", True),
    )


def _write(config: ModelConfig) -> Json:
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.intermediate_size,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": write_activation(config.activation),
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


GPT2 = Family(
    tokens="transformer.wte.weight",
    prefix="transformer.",
    rules=_rules,
    heads={"causal_lm": HeadFormat("GPT2LMHeadModel", lm_head_rules)},
    head_prefixes=("lm_head.", "score."),
    read=_read,
    write=_write,
    required={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
        "is_causal": True,
    },
    ignored=(".attn.bias", ".attn.masked_bias"),
)
