"""Fields of config.json whose type or size is wrong, refused by name before they are used."""

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["check_fields"]

_LARGEST = 2**31 - 1  # more of anything has no tensor
_MOST_LAYERS = 10_000  # more only cost time before the weights are found to lack them

_LAYERS = (
    "n_layer",
    "num_hidden_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "n_layers",
)
_SIZES = (
    "vocab_size",
    "n_positions",
    "n_embd",
    "n_head",
    "max_position_embeddings",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "type_vocab_size",
    "d_model",
    "d_ff",
    "d_kv",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "encoder_ffn_dim",
    "encoder_attention_heads",
    "decoder_ffn_dim",
    "decoder_attention_heads",
    "dim",
    "hidden_dim",
    "n_heads",
    "sliding_window_pattern",
    "global_attn_every_n_layers",
)
_OPTIONAL_SIZES = (
    "n_inner",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "local_attention",
)
_NUMBERS = (
    "layer_norm_epsilon",
    "layer_norm_eps",
    "norm_eps",
    "rms_norm_eps",
    "rope_theta",
    "global_rope_theta",
    "local_rope_theta",
    "rope_local_base_freq",
    "query_pre_attn_scalar",
)
_OPTIONAL_NUMBERS = ("attn_logit_softcapping", "final_logit_softcapping")
_FLAGS = (
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "norm_bias",
    "decoder_bias",
    "classifier_bias",
    "scale_decoder_outputs",
    "scale_embedding",
    "use_sliding_window",
    "is_encoder_decoder",
)
_NAMES = ("hidden_act", "activation_function", "activation", "feed_forward_proj")
_OPTIONAL_NAMES = ("hidden_activation", "classifier_pooling")
_IDS = ("bos_token_id", "decoder_start_token_id")
_OBJECTS = ("rope_parameters", "rope_scaling", "id2label", "label2id")

_Check = tuple[tuple[str, ...], Callable[[Any], bool], str]


def check_fields(theirs: Mapping[str, Any]) -> None:
    """Checks the fields that are there.

    Raises:
        ValueError: names the first one that is wrong.
    """
    for names, is_right, expected in _CHECKS:
        for name in names:
            if name in theirs and not is_right(theirs[name]):
                raise ValueError(
                    f"the field {name} is {theirs[name]!r}; expected {expected}; mend it"
                )


def _is_whole(value: Any, *, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_size(value: Any) -> bool:
    return _is_whole(value, least=1, most=_LARGEST)


def _is_depth(value: Any) -> bool:
    return _is_whole(value, least=1, most=_MOST_LAYERS)


def _is_id(value: Any) -> bool:
    return value is None or _is_whole(value, least=0, most=_LARGEST)


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _or_none(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_right(value)


_CHECKS: tuple[_Check, ...] = (
    (_LAYERS, _is_depth, f"a whole number from 1 to {_MOST_LAYERS:,}"),
    (("num_decoder_layers",), _or_none(_is_depth), f"1 to {_MOST_LAYERS:,}, or null"),
    (_SIZES, _is_size, "a whole number of at least 1 and below 2**31"),
    (_OPTIONAL_SIZES, _or_none(_is_size), "a whole number of at least 1 and below 2**31, or null"),
    (_NUMBERS, _is_positive, "a finite number above 0"),
    (_OPTIONAL_NUMBERS, _or_none(_is_positive), "a finite number above 0, or null"),
    (_FLAGS, lambda value: isinstance(value, bool), "true or false"),
    (_NAMES, lambda value: isinstance(value, str), "a name"),
    (_OPTIONAL_NAMES, _or_none(lambda value: isinstance(value, str)), "a name, or null"),
    (_IDS, _is_id, "an id of at least 0, or null"),
    (("pad_token_id",), lambda value: value == -1 or _is_id(value), "an id, or null"),
    (
        ("eos_token_id",),
        lambda value: all(map(_is_id, value)) if isinstance(value, list) else _is_id(value),
        "an id of at least 0, a list of them, or null",
    ),
    (_OBJECTS, _or_none(lambda value: isinstance(value, dict)), "an object or null"),
    (("layer_types",), _or_none(_is_names), "a list of names, or null"),
)
