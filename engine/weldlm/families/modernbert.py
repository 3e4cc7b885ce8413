"""ModernBERT: an encoder with rotary positions, gated MLP and mostly local attention."""

from weldlm.config import ModelConfig
from weldlm.families.family import (
    Family,
    HeadFormat,
    Json,
    Rule,
    layer_types,
    read_activation,
    read_scaling,
    read_window,
    with_bias,
    write_activation,
    write_rotary,
)

__all__ = ["MODERNBERT"]


def _rules(config: ModelConfig) -> list[Rule]:
    block, theirs = "transformer.blocks.{layer}", "model.layers.{layer}"
    ours, norm_bias, mlp_bias = "transformer", config.has_norm_bias, config.mlp_has_bias
    first_norm = with_bias(f"{block}.attention_norm", f"{theirs}.attn_norm", has_bias=norm_bias)
    return [
        Rule(f"{ours}.embedding.tokens.weight", ("model.embeddings.tok_embeddings.weight",)),
        *with_bias(f"{ours}.embedding.norm", "model.embeddings.norm", has_bias=norm_bias),
        *(Rule(rule.ours, rule.theirs, first_layer=1) for rule in first_norm),
        *with_bias(f"{block}.attention.qkv", f"{theirs}.attn.Wqkv", has_bias=config.has_bias),
        *with_bias(f"{block}.attention.out", f"{theirs}.attn.Wo", has_bias=config.has_bias),
        *with_bias(f"{block}.mlp_norm", f"{theirs}.mlp_norm", has_bias=norm_bias),
        *with_bias(f"{block}.mlp.up", f"{theirs}.mlp.Wi", has_bias=mlp_bias),
        *with_bias(f"{block}.mlp.down", f"{theirs}.mlp.Wo", has_bias=mlp_bias),
        *with_bias(f"{ours}.norm", "model.final_norm", has_bias=norm_bias),
    ]


def _transform_rules(ours: str, config: ModelConfig) -> list[Rule]:
    return [
        *with_bias(f"{ours}.dense", "head.dense", has_bias=config.has_bias),
        *with_bias(f"{ours}.norm", "head.norm", has_bias=config.has_norm_bias),
    ]


def _masked_lm_rules(config: ModelConfig) -> list[Rule]:
    rules = _transform_rules("transform", config)
    if config.has_head_bias:
        rules.append(Rule("head_bias", ("decoder.bias",)))
    if not config.tie_embeddings:
        rules.append(Rule("head.weight", ("decoder.weight",)))
    return rules


def _classifier_rules(config: ModelConfig) -> list[Rule]:
    return [
        *_transform_rules("pooler", config),
        *with_bias("classifier", "classifier", has_bias=True),
    ]


def _read(theirs: Json) -> ModelConfig:
    has_bias, mlp_has_bias = theirs.get("attention_bias", False), theirs.get("mlp_bias", False)
    for name, expected in (
        ("classifier_bias", has_bias),
        ("classifier_activation", theirs.get("hidden_activation", "gelu")),
    ):
        if theirs.get(name, expected) != expected:
            raise ValueError(
                f"{name} {theirs[name]!r} is not supported; expected {expected!r}, as in the layers"
            )
    whole, local = _read_rope(theirs)
    period = theirs.get("global_attn_every_n_layers", 3)
    types = theirs.get("layer_types") or [
        "sliding_attention" if layer % period else "full_attention"
        for layer in range(theirs["num_hidden_layers"])
    ]
    pattern = read_window(types)
    num_heads, hidden_size = theirs["num_attention_heads"], theirs["hidden_size"]
    return ModelConfig(
        family="modernbert",
        vocab_size=theirs["vocab_size"],
        context_length=theirs["max_position_embeddings"],
        hidden_size=hidden_size,
        num_layers=theirs["num_hidden_layers"],
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=theirs["intermediate_size"],
        norm="layer_norm",
        norm_eps=theirs.get("norm_eps", 1e-5),
        has_norm_bias=theirs.get("norm_bias", False),
        has_first_norm=False,
        has_embedding_norm=True,
        positions="rotary",
        rotary_base=whole,
        rotary_local_base=local,
        is_causal=False,
        # theirs counts the tokens on both sides, and sees the one at the edge
        window=theirs.get("local_attention", 128) // 2 + 1 if any(pattern) else None,
        window_pattern=pattern if any(pattern) else (True,),
        activation=read_activation(theirs.get("hidden_activation", "gelu")),
        is_gated=True,
        has_bias=has_bias,
        has_mlp_bias=None if mlp_has_bias == has_bias else mlp_has_bias,
        tie_embeddings=theirs.get("tie_word_embeddings", True),
        has_head_bias=theirs.get("decoder_bias", True),
        has_transform=True,
        pooling="mean" if theirs.get("classifier_pooling", "cls") == "mean" else "first",
        pooler="transform",
    )


def _read_rope(theirs: Json) -> tuple[float, float]:
    """Bases of global and local layers."""
    rope = theirs.get("rope_parameters") or {}
    whole: Json = rope.get("full_attention") or {}
    local: Json = rope.get("sliding_attention") or {}
    for part in (whole, local, theirs.get("rope_scaling") or {}):
        if read_scaling(part) is not None:
            raise ValueError(
                f"rope_type {part['rope_type']!r} is not supported here; expected 'default'"
            )
    return (
        whole.get("rope_theta") or theirs.get("global_rope_theta", 160_000.0),
        local.get("rope_theta") or theirs.get("local_rope_theta", 10_000.0),
    )


def _write(config: ModelConfig) -> Json:
    local = config.rotary_base if config.rotary_local_base is None else config.rotary_local_base
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "norm_eps": config.norm_eps,
        "norm_bias": config.has_norm_bias,
        "hidden_activation": write_activation(config.activation),
        "attention_bias": config.has_bias,
        "mlp_bias": config.mlp_has_bias,
        "decoder_bias": config.has_head_bias,
        "classifier_bias": config.has_bias,
        "classifier_activation": write_activation(config.activation),
        "classifier_pooling": "mean" if config.pooling == "mean" else "cls",
        "local_attention": 128 if config.window is None else 2 * (config.window - 1),
        "layer_types": layer_types(config),
        "rope_parameters": {
            "full_attention": write_rotary(config.rotary_base, None),
            "sliding_attention": write_rotary(local, None),
        },
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "mlp_dropout": 0.0,
    }


_SEQUENCE = HeadFormat("ModernBertForSequenceClassification", _classifier_rules)

MODERNBERT = Family(
    tokens="model.embeddings.tok_embeddings.weight",
    prefix="model.",
    rules=_rules,
    heads={
        "masked_lm": HeadFormat("ModernBertForMaskedLM", _masked_lm_rules),
        "sequence_classification": _SEQUENCE,
        "regression": _SEQUENCE,
        "token_classification": HeadFormat("ModernBertForTokenClassification", _classifier_rules),
        "question_answering": HeadFormat("ModernBertForQuestionAnswering", _classifier_rules),
        "embedding": HeadFormat("ModernBertModel"),
    },
    head_prefixes=("head.", "decoder.", "classifier."),
    read=_read,
    write=_write,
    required={},
)
