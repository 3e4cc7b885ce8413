"""How each family is written in a Hugging Face folder: configuration fields and tensor names.

A family is data: a translation of `config.json` both ways, and rules that say which of their
tensors make up one of ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weldlm.config import Activation, ModelConfig

__all__ = ["FAMILIES", "Family", "Rule"]

Json = dict[str, Any]

# theirs -> ours; "gelu_new" and its aliases are the tanh approximation
_ACTIVATION_NAMES: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One of our tensors and those of theirs that it holds, one below the other."""

    ours: str  # `{layer}` stands for the block's number
    theirs: tuple[str, ...]
    is_transposed: bool = False  # they keep [in, out] where we keep [out, in]


@dataclass(frozen=True, slots=True)
class Family:
    """A Hugging Face model type."""

    architecture: str
    prefix: str  # of every tensor but the head; files of the bare transformer lack it
    rules: Callable[[ModelConfig], list[Rule]]
    read: Callable[[Json], ModelConfig]
    write: Callable[[ModelConfig], Json]
    required: Json  # fields whose other values change the maths in a way we do not support
    ignored: tuple[str, ...]  # endings of tensors that are constants, not weights


def _activation(name: str) -> Activation:
    if name not in _ACTIVATION_NAMES:
        known = ", ".join(_ACTIVATION_NAMES)
        raise ValueError(f"activation {name!r} is not supported; expected one of {known}")
    return _ACTIVATION_NAMES[name]


def _their_activation(activation: Activation) -> str:
    return next(theirs for theirs, ours in _ACTIVATION_NAMES.items() if ours == activation)


def _with_bias(ours: str, *theirs: str, has_bias: bool, is_transposed: bool = False) -> list[Rule]:
    weight = Rule(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs), is_transposed)
    bias = Rule(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs))
    return [weight, bias] if has_bias else [weight]


def _gpt2_rules(_: ModelConfig) -> list[Rule]:
    block, h = "transformer.blocks.{layer}", "transformer.h.{layer}"
    return [
        Rule("transformer.embedding.tokens.weight", ("transformer.wte.weight",)),
        Rule("transformer.embedding.positions.weight", ("transformer.wpe.weight",)),
        *_with_bias(f"{block}.attention_norm", f"{h}.ln_1", has_bias=True),
        *_with_bias(
            f"{block}.attention.qkv", f"{h}.attn.c_attn", has_bias=True, is_transposed=True
        ),
        *_with_bias(
            f"{block}.attention.out", f"{h}.attn.c_proj", has_bias=True, is_transposed=True
        ),
        *_with_bias(f"{block}.mlp_norm", f"{h}.ln_2", has_bias=True),
        *_with_bias(f"{block}.mlp.up", f"{h}.mlp.c_fc", has_bias=True, is_transposed=True),
        *_with_bias(f"{block}.mlp.down", f"{h}.mlp.c_proj", has_bias=True, is_transposed=True),
        *_with_bias("transformer.norm", "transformer.ln_f", has_bias=True),
    ]


def _read_gpt2(theirs: Json) -> ModelConfig:
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
        activation=_activation(theirs.get("activation_function", "gelu_new")),
        is_gated=False,
        has_bias=True,
        tie_embeddings=theirs.get("tie_word_embeddings", True),
        bos_id=theirs.get("bos_token_id"),
        eos_id=theirs.get("eos_token_id"),
    )


def _write_gpt2(config: ModelConfig) -> Json:
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.intermediate_size,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": _their_activation(config.activation),
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def _llama_rules(config: ModelConfig) -> list[Rule]:
    block, theirs = "transformer.blocks.{layer}", "model.layers.{layer}"
    attn, has_bias = f"{theirs}.self_attn", config.has_bias
    return [
        Rule("transformer.embedding.tokens.weight", ("model.embed_tokens.weight",)),
        Rule(f"{block}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",)),
        *_with_bias(
            f"{block}.attention.qkv",
            f"{attn}.q_proj",
            f"{attn}.k_proj",
            f"{attn}.v_proj",
            has_bias=has_bias,
        ),
        *_with_bias(f"{block}.attention.out", f"{attn}.o_proj", has_bias=has_bias),
        Rule(f"{block}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",)),
        *_with_bias(
            f"{block}.mlp.up",
            f"{theirs}.mlp.gate_proj",
            f"{theirs}.mlp.up_proj",
            has_bias=has_bias,
        ),
        *_with_bias(f"{block}.mlp.down", f"{theirs}.mlp.down_proj", has_bias=has_bias),
        Rule("transformer.norm.weight", ("model.norm.weight",)),
    ]


def _read_llama(theirs: Json) -> ModelConfig:
    rope = theirs.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(
            f"rope_type {rope['rope_type']!r} is not supported; expected 'default' (no scaling)"
        )
    has_bias = theirs.get("attention_bias", False)
    if has_bias != theirs.get("mlp_bias", False):
        raise ValueError(
            f"attention_bias {has_bias} and mlp_bias {not has_bias} is not supported; "
            "expected both or neither"
        )
    hidden_size, num_heads = theirs["hidden_size"], theirs["num_attention_heads"]
    return ModelConfig(
        family="llama",
        vocab_size=theirs["vocab_size"],
        context_length=theirs["max_position_embeddings"],
        hidden_size=hidden_size,
        num_layers=theirs["num_hidden_layers"],
        num_heads=num_heads,
        num_kv_heads=theirs.get("num_key_value_heads") or num_heads,
        head_dim=theirs.get("head_dim") or hidden_size // num_heads,
        intermediate_size=theirs["intermediate_size"],
        norm="rms_norm",
        norm_eps=theirs.get("rms_norm_eps", 1e-6),
        positions="rotary",
        rotary_base=rope.get("rope_theta") or theirs.get("rope_theta", 10_000.0),
        activation=_activation(theirs.get("hidden_act", "silu")),
        is_gated=True,
        has_bias=has_bias,
        tie_embeddings=theirs.get("tie_word_embeddings", False),
        bos_id=theirs.get("bos_token_id"),
        eos_id=theirs.get("eos_token_id"),
    )


def _write_llama(config: ModelConfig) -> Json:
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
        "hidden_act": _their_activation(config.activation),
        "attention_bias": config.has_bias,
        "mlp_bias": config.has_bias,
        "attention_dropout": 0.0,
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_theta": config.rotary_base, "rope_type": "default"},
    }


FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        architecture="GPT2LMHeadModel",
        prefix="transformer.",
        rules=_gpt2_rules,
        read=_read_gpt2,
        write=_write_gpt2,
        required={
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
        },
        ignored=(".attn.bias", ".attn.masked_bias"),
    ),
    "llama": Family(
        architecture="LlamaForCausalLM",
        prefix="model.",
        rules=_llama_rules,
        read=_read_llama,
        write=_write_llama,
        required={"rope_scaling": None, "pretraining_tp": 1},
        ignored=(".rotary_emb.inv_freq",),
    ),
}
