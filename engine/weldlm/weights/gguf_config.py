"""The metadata of a GGUF file as the fields of a config.json.

The meaning of the fields is that of llama.cpp, and so is what it does not write down: constants
that follow from the architecture.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from weldlm.gguf_file import GgufFile

__all__ = ["ARCHITECTURES", "gguf_fields"]

Json = dict[str, Any]

# what llama.cpp does with these would change the maths
_REFUSED: Json = {"expert_count": 0, "attention.causal": True, "rope.scale_linear": 1.0}
_GEMMA2_27B_LAYERS, _GEMMA3_27B_LAYERS = 46, 62
# Llama 3.1 (rope_scaling in its config.json); the file keeps what follows from it
_LOW, _HIGH, _ORIGINAL = 1.0, 4.0, 8_192


class _Metadata:
    """The fields of a file, those of its architecture by their short names."""

    def __init__(self, file: GgufFile) -> None:
        self.file = file
        self.architecture: str = file.require("general.architecture")

    def get(self, name: str, default: Any = None) -> Any:
        return self.file.get(f"{self.architecture}.{name}", default)

    def require(self, name: str) -> Any:
        return self.file.require(f"{self.architecture}.{name}")


def gguf_fields(file: GgufFile) -> Json:
    """Returns what config.json says of such a model.

    Raises:
        ValueError: a field is missing, or asks for what is not supported.
    """
    data = _Metadata(file)
    if data.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(
            f"{file.path}: general.architecture is {data.architecture!r}, which is not supported; "
            f"expected {known}"
        )
    if file.get("split.count", 0) > 1:
        raise ValueError(
            f"{file.path} is one of {file.get('split.count')} parts; expected the whole model in "
            "one file; join them with `llama-gguf-split --merge`"
        )
    for name, expected in _REFUSED.items():
        if data.get(name, expected) != expected:
            raise ValueError(
                f"{file.path}: {data.architecture}.{name} is {data.get(name)!r}, which is not "
                f"supported; expected {expected!r}"
            )
    return ARCHITECTURES[data.architecture](data) | _token_ids(file)


def _token_ids(file: GgufFile) -> Json:
    eos_ids = [
        token_id
        for name in ("eos", "eot")
        if (token_id := file.get(f"tokenizer.ggml.{name}_token_id")) is not None
    ]
    return {
        "bos_token_id": file.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": list(dict.fromkeys(eos_ids)) or None,
        "pad_token_id": file.get("tokenizer.ggml.padding_token_id"),
    }


def _sizes(data: _Metadata) -> Json:
    """What all architectures with rotary positions write alike."""
    hidden_size, num_heads = data.require("embedding_length"), data.require("attention.head_count")
    head_dim = data.get("attention.key_length") or _quotient(hidden_size, num_heads)
    for name in ("attention.value_length", "rope.dimension_count"):
        if data.get(name, head_dim) != head_dim:
            raise ValueError(
                f"{data.file.path}: {data.architecture}.{name} is {data.get(name)}; expected "
                f"{head_dim}, the size of a head"
            )
    return {
        "vocab_size": _rows_of_embedding(data.file),
        "max_position_embeddings": data.require("context_length"),
        "hidden_size": hidden_size,
        "num_hidden_layers": data.require("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": data.get("attention.head_count_kv") or num_heads,
        "head_dim": head_dim,
        "intermediate_size": data.require("feed_forward_length"),
        "rms_norm_eps": data.require("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in data.file.tensors,
    }


def _llama(data: _Metadata) -> Json:
    window = data.get("attention.sliding_window")
    return {
        **_sizes(data),
        "model_type": "mistral" if window else "llama",
        **({"sliding_window": window} if window else {}),
        "attention_bias": "blk.0.attn_q.bias" in data.file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in data.file.tensors,
        "rope_parameters": _rope(data, 10_000.0),
    }


def _qwen2(data: _Metadata) -> Json:
    return {**_sizes(data), "model_type": "qwen2", "rope_parameters": _rope(data, 10_000.0)}


def _qwen3(data: _Metadata) -> Json:
    return {**_sizes(data), "model_type": "qwen3", "rope_parameters": _rope(data, 10_000.0)}


def _gemma2(data: _Metadata) -> Json:
    return {
        **_gemma(data, _GEMMA2_27B_LAYERS),
        "model_type": "gemma2",
        "attn_logit_softcapping": data.get("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": data.get("final_logit_softcapping", 30.0),
        "rope_parameters": _rope(data, 10_000.0),
    }


def _gemma3(data: _Metadata) -> Json:
    local = {"rope_type": "default", "rope_theta": data.get("rope.freq_base_swa", 10_000.0)}
    return {
        **_gemma(data, _GEMMA3_27B_LAYERS),
        "model_type": "gemma3_text",
        "final_logit_softcapping": data.get("final_logit_softcapping"),
        "rope_parameters": {
            "full_attention": _rope(data, 1_000_000.0),
            "sliding_attention": local,
        },
    }


def _gemma(data: _Metadata, largest_num_layers: int) -> Json:
    sizes = _sizes(data)
    scalar = sizes["head_dim"]
    if sizes["num_hidden_layers"] == largest_num_layers:
        scalar = _quotient(sizes["hidden_size"], sizes["num_attention_heads"])
    return {
        **sizes,
        "query_pre_attn_scalar": scalar,
        "sliding_window": data.require("attention.sliding_window"),
    }


def _gpt2(data: _Metadata) -> Json:
    return {
        "model_type": "gpt2",
        "vocab_size": _rows_of_embedding(data.file),
        "n_positions": data.require("context_length"),
        "n_embd": data.require("embedding_length"),
        "n_layer": data.require("block_count"),
        "n_head": data.require("attention.head_count"),
        "n_inner": data.require("feed_forward_length"),
        "layer_norm_epsilon": data.require("attention.layer_norm_epsilon"),
        "tie_word_embeddings": "output.weight" not in data.file.tensors,
    }


def _quotient(size: Any, count: Any) -> int:
    if type(size) is not int or type(count) is not int or count < 1:
        raise ValueError(f"a size of {size!r} for {count!r} heads; expected whole numbers")
    return size // count


def _rows_of_embedding(file: GgufFile) -> int:
    if "token_embd.weight" not in file.tensors:
        raise ValueError(f"{file.path} lacks the tensor 'token_embd.weight'")
    return file.tensors["token_embd.weight"].shape[0]


def _rope(data: _Metadata, default_base: float) -> Json:
    rope: Json = {"rope_theta": data.get("rope.freq_base", default_base), "rope_type": "default"}
    if "rope_freqs.weight" in data.file.tensors:
        return rope | _llama3_scaling(data, rope["rope_theta"])
    kind, factor = data.get("rope.scaling.type", "linear"), data.get("rope.scaling.factor", 0.0)
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return rope
    return rope | {"rope_type": kind, "factor": factor}


def _llama3_scaling(data: _Metadata, base: float) -> Json:
    """The scaling that gives the divisors of frequencies in the file.

    Raises:
        ValueError: it is another one.
    """
    divisors = data.file.values("rope_freqs.weight").astype(np.float64).ravel()
    factor = float(divisors.max())
    frequencies = base ** -(np.arange(len(divisors)) / len(divisors))
    turns = _ORIGINAL * frequencies / (2 * math.pi)
    kept = ((turns - _LOW) / (_HIGH - _LOW)).clip(0.0, 1.0)
    if not np.allclose(divisors, 1 / ((1 - kept) / factor + kept), rtol=1e-4):
        raise ValueError(
            f"{data.file.path}: rope_freqs.weight is not the scaling of Llama 3, which alone is "
            "supported"
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _ORIGINAL,
    }


ARCHITECTURES: dict[str, Callable[[_Metadata], Json]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gpt2": _gpt2,
}
