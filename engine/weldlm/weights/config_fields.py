"""Fields of config.json whose type or sign is wrong, refused by name before they are used."""

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["check_fields"]

_SIZES = (
    "vocab_size",
    "n_positions",
    "n_embd",
    "n_layer",
    "n_head",
    "max_position_embeddings",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "d_model",
    "d_ff",
    "d_kv",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "encoder_layers",
    "encoder_ffn_dim",
    "encoder_attention_heads",
    "decoder_layers",
    "decoder_ffn_dim",
    "decoder_attention_heads",
    "dim",
    "hidden_dim",
    "n_layers",
    "n_heads",
)
_OPTIONAL_SIZES = (
    "n_inner",
    "num_key_value_heads",
    "head_dim",
    "num_decoder_layers",
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
    "rope_local_base_freq",
)
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias")


def check_fields(theirs: Mapping[str, Any]) -> None:
    """Checks the fields that are there.

    Raises:
        ValueError: names the first one that is wrong.
    """
    _check(theirs, _SIZES, _is_size, "a whole number of at least 1")
    _check(
        theirs,
        _OPTIONAL_SIZES,
        lambda value: value is None or _is_size(value),
        "a whole number of at least 1, or null",
    )
    _check(theirs, _NUMBERS, _is_positive, "a finite number above 0")
    _check(theirs, _FLAGS, lambda value: isinstance(value, bool), "true or false")
    _check(
        theirs,
        ("rope_parameters",),
        lambda value: value is None or isinstance(value, dict),
        "an object or null",
    )


def _check(
    theirs: Mapping[str, Any],
    names: tuple[str, ...],
    is_right: Callable[[Any], bool],
    expected: str,
) -> None:
    for name in names:
        if name in theirs and not is_right(theirs[name]):
            raise ValueError(f"the field {name} is {theirs[name]!r}; expected {expected}; mend it")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0
