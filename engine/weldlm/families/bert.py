"""BERT, RoBERTa and DistilBERT: encoders with a norm after each residual sum."""

from typing import Any

from weldlm.config import ModelConfig
from weldlm.families.family import (
    Family,
    HeadFormat,
    Json,
    Rule,
    read_activation,
    with_bias,
    write_activation,
)

__all__ = ["BERT", "DISTILBERT", "ROBERTA"]

_NO_DECODER: Json = {
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
}
# what all three have in common
_ENCODER: dict[str, Any] = {
    "norm": "layer_norm",
    "norm_place": "post",
    "has_embedding_norm": True,
    "positions": "learned",
    "is_causal": False,
    "is_gated": False,
    "has_bias": True,
    "has_head_bias": True,
    "has_transform": True,
    "pooling": "first",
}


def _bert_rules(prefix: str, config: ModelConfig) -> list[Rule]:
    block, theirs = "transformer.blocks.{layer}", f"{prefix}.encoder.layer.{{layer}}"
    attn, ours, embeddings = f"{theirs}.attention", "transformer.embedding", f"{prefix}.embeddings"
    qkv = (f"{attn}.self.query", f"{attn}.self.key", f"{attn}.self.value")
    rules = [
        Rule(f"{ours}.tokens.weight", (f"{embeddings}.word_embeddings.weight",)),
        Rule(f"{ours}.positions.weight", (f"{embeddings}.position_embeddings.weight",)),
        *with_bias(f"{ours}.norm", f"{embeddings}.LayerNorm", has_bias=True),
        *with_bias(f"{block}.attention.qkv", *qkv, has_bias=True),
        *with_bias(f"{block}.attention.out", f"{attn}.output.dense", has_bias=True),
        *with_bias(f"{block}.attention_norm", f"{attn}.output.LayerNorm", has_bias=True),
        *with_bias(f"{block}.mlp.up", f"{theirs}.intermediate.dense", has_bias=True),
        *with_bias(f"{block}.mlp.down", f"{theirs}.output.dense", has_bias=True),
        *with_bias(f"{block}.mlp_norm", f"{theirs}.output.LayerNorm", has_bias=True),
    ]
    if config.num_token_types:
        types = f"{embeddings}.token_type_embeddings.weight"
        rules.append(Rule(f"{ours}.token_types.weight", (types,)))
    return rules


def _masked_lm_rules(
    config: ModelConfig, *, dense: str, norm: str, bias: str, decoder: str
) -> list[Rule]:
    rules = [
        *with_bias("transform.dense", dense, has_bias=True),
        *with_bias("transform.norm", norm, has_bias=True),
    ]
    if config.tie_embeddings:
        return [*rules, Rule("head_bias", (bias,))]
    # a head of its own has its own bias, and the other one is used by nobody
    own = Rule("head.weight", (f"{decoder}.weight",)), Rule("head_bias", (f"{decoder}.bias",))
    return [*rules, *own]


def _bert_masked_lm(config: ModelConfig) -> list[Rule]:
    return _masked_lm_rules(
        config,
        dense="cls.predictions.transform.dense",
        norm="cls.predictions.transform.LayerNorm",
        bias="cls.predictions.bias",
        decoder="cls.predictions.decoder",
    )


def _roberta_masked_lm(config: ModelConfig) -> list[Rule]:
    return _masked_lm_rules(
        config,
        dense="lm_head.dense",
        norm="lm_head.layer_norm",
        bias="lm_head.bias",
        decoder="lm_head.decoder",
    )


def _distilbert_masked_lm(config: ModelConfig) -> list[Rule]:
    return _masked_lm_rules(
        config,
        dense="vocab_transform",
        norm="vocab_layer_norm",
        bias="vocab_projector.bias",
        decoder="vocab_projector",
    )


def _heads(
    name: str, masked_lm: HeadFormat, *, pooler: str, classifier: str
) -> dict[Any, HeadFormat]:
    def sequence_rules(_: ModelConfig) -> list[Rule]:
        return [
            *with_bias("pooler.dense", pooler, has_bias=True),
            *with_bias("classifier", classifier, has_bias=True),
        ]

    def token_rules(_: ModelConfig) -> list[Rule]:
        return with_bias("classifier", "classifier", has_bias=True)

    def span_rules(_: ModelConfig) -> list[Rule]:
        return with_bias("classifier", "qa_outputs", has_bias=True)

    sequence = HeadFormat(f"{name}ForSequenceClassification", sequence_rules)
    return {
        "masked_lm": masked_lm,
        "sequence_classification": sequence,
        "regression": sequence,
        "token_classification": HeadFormat(f"{name}ForTokenClassification", token_rules),
        "question_answering": HeadFormat(f"{name}ForQuestionAnswering", span_rules),
        "embedding": HeadFormat(f"{name}Model"),
    }


def _read(theirs: Json, **changes: object) -> ModelConfig:
    hidden_size, num_heads = theirs["hidden_size"], theirs["num_attention_heads"]
    fields: dict[str, Any] = {
        "vocab_size": theirs["vocab_size"],
        "context_length": theirs["max_position_embeddings"],
        "hidden_size": hidden_size,
        "num_layers": theirs["num_hidden_layers"],
        "num_heads": num_heads,
        "num_kv_heads": num_heads,
        "head_dim": hidden_size // num_heads,
        "intermediate_size": theirs["intermediate_size"],
        "norm_eps": theirs.get("layer_norm_eps", 1e-12),
        "num_token_types": theirs.get("type_vocab_size", 2),
        "activation": read_activation(theirs.get("hidden_act", "gelu")),
        "tie_embeddings": theirs.get("tie_word_embeddings", True),
        "pooler": "tanh",
        **_ENCODER,
    }
    return ModelConfig(**(fields | changes))


def _read_bert(theirs: Json) -> ModelConfig:
    return _read(theirs, family="bert")


def _read_roberta(theirs: Json) -> ModelConfig:
    # rows of padding come first in their table
    pad_id = theirs.get("pad_token_id", 1)
    if pad_id is None:
        raise ValueError(
            "the field pad_token_id is None; expected an id, behind which positions of roberta "
            "begin to count; mend it"
        )
    offset = pad_id + 1
    length = theirs["max_position_embeddings"] - offset
    return _read(theirs, family="roberta", context_length=length, position_offset=offset)


def _read_distilbert(theirs: Json) -> ModelConfig:
    hidden_size, num_heads = theirs["dim"], theirs["n_heads"]
    return ModelConfig(
        family="distilbert",
        vocab_size=theirs["vocab_size"],
        context_length=theirs["max_position_embeddings"],
        hidden_size=hidden_size,
        num_layers=theirs["n_layers"],
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=theirs["hidden_dim"],
        norm_eps=1e-12,
        activation=read_activation(theirs.get("activation", "gelu")),
        tie_embeddings=theirs.get("tie_word_embeddings", True),
        pooler="relu",
        **_ENCODER,
    )


def _write(config: ModelConfig) -> Json:
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length + config.position_offset,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "layer_norm_eps": config.norm_eps,
        "type_vocab_size": config.num_token_types,
        "hidden_act": write_activation(config.activation),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _write_roberta(config: ModelConfig) -> Json:
    return _write(config) | {"pad_token_id": config.position_offset - 1}


def _write_distilbert(config: ModelConfig) -> Json:
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "dim": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "hidden_dim": config.intermediate_size,
        "activation": write_activation(config.activation),
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "qa_dropout": 0.0,
        "seq_classif_dropout": 0.0,
    }


def _distilbert_rules(_: ModelConfig) -> list[Rule]:
    block, theirs = "transformer.blocks.{layer}", "distilbert.transformer.layer.{layer}"
    attn, ours, embeddings = f"{theirs}.attention", "transformer.embedding", "distilbert.embeddings"
    qkv = (f"{attn}.q_lin", f"{attn}.k_lin", f"{attn}.v_lin")
    return [
        Rule(f"{ours}.tokens.weight", (f"{embeddings}.word_embeddings.weight",)),
        Rule(f"{ours}.positions.weight", (f"{embeddings}.position_embeddings.weight",)),
        *with_bias(f"{ours}.norm", f"{embeddings}.LayerNorm", has_bias=True),
        *with_bias(f"{block}.attention.qkv", *qkv, has_bias=True),
        *with_bias(f"{block}.attention.out", f"{attn}.out_lin", has_bias=True),
        *with_bias(f"{block}.attention_norm", f"{theirs}.sa_layer_norm", has_bias=True),
        *with_bias(f"{block}.mlp.up", f"{theirs}.ffn.lin1", has_bias=True),
        *with_bias(f"{block}.mlp.down", f"{theirs}.ffn.lin2", has_bias=True),
        *with_bias(f"{block}.mlp_norm", f"{theirs}.output_layer_norm", has_bias=True),
    ]


# names of the norms' weights in the first checkpoints
_OLD_NAMES = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}

BERT = Family(
    tokens="bert.embeddings.word_embeddings.weight",
    prefix="bert.",
    rules=lambda config: _bert_rules("bert", config),
    heads=_heads(
        "Bert",
        HeadFormat("BertForMaskedLM", _bert_masked_lm),
        pooler="bert.pooler.dense",
        classifier="classifier",
    ),
    head_prefixes=("cls.", "classifier.", "qa_outputs.", "bert.pooler."),
    read=_read_bert,
    write=_write,
    required=_NO_DECODER,
    ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
    renamed=_OLD_NAMES,
)
ROBERTA = Family(
    tokens="roberta.embeddings.word_embeddings.weight",
    prefix="roberta.",
    rules=lambda config: _bert_rules("roberta", config),
    heads=_heads(
        "Roberta",
        HeadFormat("RobertaForMaskedLM", _roberta_masked_lm),
        pooler="classifier.dense",
        classifier="classifier.out_proj",
    ),
    head_prefixes=("lm_head.", "classifier.", "qa_outputs.", "roberta.pooler."),
    read=_read_roberta,
    write=_write_roberta,
    # their masked-LM head has its own activation, which is always this one
    required=_NO_DECODER | {"hidden_act": "gelu"},
    ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
    renamed=_OLD_NAMES,
)
DISTILBERT = Family(
    tokens="distilbert.embeddings.word_embeddings.weight",
    prefix="distilbert.",
    rules=_distilbert_rules,
    heads=_heads(
        "DistilBert",
        HeadFormat("DistilBertForMaskedLM", _distilbert_masked_lm),
        pooler="pre_classifier",
        classifier="classifier",
    ),
    head_prefixes=(
        "vocab_transform.",
        "vocab_layer_norm.",
        "vocab_projector.",
        "pre_classifier.",
        "classifier.",
        "qa_outputs.",
    ),
    read=_read_distilbert,
    write=_write_distilbert,
    # a computed table is stored as weights, and loads as a learned one
    required={},
    ignored=("embeddings.position_ids",),
)
