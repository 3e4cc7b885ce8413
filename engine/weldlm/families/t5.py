"""T5 v1.0, v1.1 and Flan-T5."""

from weldlm.config import ModelConfig
from weldlm.families.family import (
    Family,
    HeadFormat,
    Json,
    Rule,
    lm_head_rules,
    read_activation,
    write_activation,
)

__all__ = ["T5"]


def _rules(config: ModelConfig) -> list[Rule]:
    tokens = Rule("encoder.embedding.tokens.weight", ("shared.weight",))
    decoder = [*_stack_rules("decoder", config, mlp_place=2), *_cross_rules()]
    return [tokens, *_stack_rules("encoder", config, mlp_place=1), *decoder]


def _stack_rules(stack: str, config: ModelConfig, *, mlp_place: int) -> list[Rule]:
    block, theirs = f"{stack}.blocks.{{layer}}", f"{stack}.block.{{layer}}.layer"
    attn, mlp = f"{theirs}.0.SelfAttention", f"{theirs}.{mlp_place}.DenseReluDense"
    first = f"{stack}.block.0.layer.0.SelfAttention"
    up = ("wi_0", "wi_1") if config.is_gated else ("wi",)
    weights = {
        f"{stack}.relative_bias": (f"{first}.relative_attention_bias",),
        f"{block}.attention_norm": (f"{theirs}.0.layer_norm",),
        f"{block}.attention.qkv": (f"{attn}.q", f"{attn}.k", f"{attn}.v"),
        f"{block}.attention.out": (f"{attn}.o",),
        f"{block}.mlp_norm": (f"{theirs}.{mlp_place}.layer_norm",),
        f"{block}.mlp.up": tuple(f"{mlp}.{name}" for name in up),
        f"{block}.mlp.down": (f"{mlp}.wo",),
        f"{stack}.norm": (f"{stack}.final_layer_norm",),
    }
    return _weight_rules(weights)


def _cross_rules() -> list[Rule]:
    block, theirs = "decoder.blocks.{layer}", "decoder.block.{layer}.layer.1"
    attn = f"{theirs}.EncDecAttention"
    weights = {
        f"{block}.cross_norm": (f"{theirs}.layer_norm",),
        f"{block}.cross_attention.q": (f"{attn}.q",),
        f"{block}.cross_attention.kv": (f"{attn}.k", f"{attn}.v"),
        f"{block}.cross_attention.out": (f"{attn}.o",),
    }
    return _weight_rules(weights)


def _weight_rules(names: dict[str, tuple[str, ...]]) -> list[Rule]:
    return [
        Rule(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs))
        for ours, theirs in names.items()
    ]


def _read(theirs: Json) -> ModelConfig:
    hidden_size, num_heads = theirs["d_model"], theirs["num_heads"]
    kind, _, name = theirs.get("feed_forward_proj", "relu").rpartition("-")
    if kind not in ("", "gated"):
        raise ValueError(
            f"feed_forward_proj {theirs['feed_forward_proj']!r} is not supported; expected an "
            "activation, or 'gated-' and an activation"
        )
    num_buckets = theirs.get("relative_attention_num_buckets", 32)
    max_distance = theirs.get("relative_attention_max_distance", 128)
    if max_distance <= num_buckets // 2:
        raise ValueError(
            f"relative_attention_max_distance {max_distance} is not supported; expected more than "
            f"{num_buckets // 2}, half of relative_attention_num_buckets"
        )
    tie_embeddings = theirs.get("tie_word_embeddings", True)
    is_scaled = theirs.get("scale_decoder_outputs", tie_embeddings)
    return ModelConfig(
        family="t5",
        vocab_size=theirs["vocab_size"],
        context_length=theirs.get("n_positions", 512),
        hidden_size=hidden_size,
        num_layers=theirs.get("num_decoder_layers") or theirs["num_layers"],
        num_encoder_layers=theirs["num_layers"],
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=theirs["d_kv"],
        intermediate_size=theirs["d_ff"],
        norm="rms_norm",
        norm_eps=theirs.get("layer_norm_epsilon", 1e-6),
        positions="relative",
        num_relative_buckets=num_buckets,
        relative_max_distance=max_distance,
        attention_scale=1.0,
        # with a gate, their "gelu" is the tanh approximation
        activation="gelu_tanh" if kind and name == "gelu" else read_activation(name),
        is_gated=bool(kind),
        has_bias=False,
        tie_embeddings=tie_embeddings,
        head_scale=hidden_size**-0.5 if is_scaled else 1.0,
    )


def _write(config: ModelConfig) -> Json:
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "d_model": config.hidden_size,
        "d_kv": config.head_dim,
        "d_ff": config.intermediate_size,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_layers,
        "num_heads": config.num_heads,
        "relative_attention_num_buckets": config.num_relative_buckets,
        "relative_attention_max_distance": config.relative_max_distance,
        "layer_norm_epsilon": config.norm_eps,
        "feed_forward_proj": _feed_forward_name(config),
        "scale_decoder_outputs": config.head_scale != 1.0,
        "is_encoder_decoder": True,
        "dropout_rate": 0.0,
    }


def _feed_forward_name(config: ModelConfig) -> str:
    if not config.is_gated:
        return write_activation(config.activation)
    if config.activation == "gelu":
        raise ValueError(
            "activation is 'gelu' and is_gated; their T5 format has only 'gelu_tanh' with a gate"
        )
    is_gelu = config.activation == "gelu_tanh"
    return "gated-gelu" if is_gelu else f"gated-{write_activation(config.activation)}"


T5 = Family(
    tokens="shared.weight",
    prefix="",
    rules=_rules,
    heads={"seq2seq_lm": HeadFormat("T5ForConditionalGeneration", lm_head_rules)},
    head_prefixes=("lm_head.",),
    read=_read,
    write=_write,
    required={"is_decoder": False, "is_causal": True},
    # copies of the shared embedding, and a table that cross-attention does not use
    ignored=("coder.embed_tokens.weight", ".EncDecAttention.relative_attention_bias.weight"),
)
