"""Models of transformers as GGUF files, with the changes of llama.cpp's convert_hf_to_gguf.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from tokenizers import pre_tokenizers
from torch import Tensor

__all__ = ["random_blocks", "write_gguf"]

_NAMES = {
    "gpt2": {
        "wte": "token_embd",
        "wpe": "position_embd",
        "ln_f": "output_norm",
        "ln_1": "attn_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
    "llama": {
        "embed_tokens": "token_embd",
        "norm": "output_norm",
        "lm_head": "output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        **{f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"},
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        **{f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")},
    },
}
_NAMES["gemma"] = _NAMES["llama"] | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
# where the fp16 scales of a block lie
_SCALES = {
    Kind.Q2_K: slice(80, 84),
    Kind.Q3_K: slice(108, 110),
    Kind.Q4_K: slice(0, 4),
    Kind.Q5_K: slice(0, 4),
    Kind.Q6_K: slice(208, 210),
}


def write_gguf(path: Path, theirs: Any, *, kind: Kind = Kind.F32, **fields: Any) -> None:
    """Writes matrices in `kind` and all else in fp32; `fields` are added without their prefix.

    The tokenizer is byte-level and has a token for each byte at least where the model does.
    """
    config = theirs.config
    architecture = {"mistral": "llama", "gemma3_text": "gemma3"}.get(
        config.model_type, config.model_type
    )
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    sizes = _gpt2_sizes(config) if architecture == "gpt2" else _sizes(config)
    for name, value in (sizes | fields).items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{name}", value)
    _add_tokenizer(writer, config.vocab_size)
    for name, tensor in _tensors(theirs, architecture):
        data = tensor.contiguous().numpy()
        if tensor.dim() == 1 or kind == Kind.F32:
            writer.add_tensor(name, data)
        elif kind in _SCALES:
            writer.add_tensor(name, random_blocks(tensor.shape, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, gguf.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", *letters, "Hi", *(f"<{place}>" for place in range(vocab_size))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens[:vocab_size])
    writer.add_token_types([3 if token.startswith("<") else 1 for token in tokens[:vocab_size]])
    writer.add_token_merges(["H i"])
    writer.add_eos_token_id(0)
    writer.add_chat_template("{% for m in messages %}[{{ m['content'] }}]{% endfor %}")


def random_blocks(shape: tuple[int, ...], kind: Kind) -> NDArray[np.uint8]:
    """Blocks of a K-quant, which the library reads but does not write."""
    size, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(3)
    blocks = generator.integers(256, size=(*shape[:-1], shape[-1] // size, num_bytes))
    data = blocks.astype(np.uint8)
    scales = generator.random((*data.shape[:-1], len(range(256)[_SCALES[kind]]) // 2)) / 1000
    data[..., _SCALES[kind]] = scales.astype(np.float16).view(np.uint8)
    return data.reshape(*shape[:-1], -1)


def _sizes(config: Any) -> dict[str, Any]:
    rope = config.rope_parameters
    sizes = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": config.head_dim if hasattr(config, "head_dim") else None,
        "rope.freq_base": float(rope.get("full_attention", rope)["rope_theta"]),
    }
    return {name: value for name, value in sizes.items() if value is not None}


def _gpt2_sizes(config: Any) -> dict[str, Any]:
    return {
        "context_length": config.n_positions,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": config.n_inner or 4 * config.n_embd,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": config.layer_norm_epsilon,
    }


def _tensors(theirs: Any, architecture: str) -> Iterator[tuple[str, Tensor]]:
    config = theirs.config
    names = _NAMES[
        {"gemma2": "gemma", "gemma3": "gemma", "gpt2": "gpt2"}.get(architecture, "llama")
    ]
    is_tied = config.tie_word_embeddings
    for name, weight in theirs.state_dict().items():
        if is_tied and name == "lm_head.weight":
            continue
        stem, ending = name.removeprefix("model.").removeprefix("transformer.").rsplit(".", 1)
        prefix = ""
        if stem.startswith(("layers.", "h.")):
            _, layer, stem = stem.split(".", 2)
            prefix = f"blk.{layer}."
        yield f"{prefix}{names[stem]}.{ending}", _changed(config, architecture, stem, weight)
    if config.model_type == "llama" and config.rope_parameters["rope_type"] == "llama3":
        yield "rope_freqs.weight", _llama3_factors(config)


def _changed(config: Any, architecture: str, stem: str, weight: Tensor) -> Tensor:
    if architecture == "llama" and stem.endswith(("q_proj", "k_proj")):
        is_key = stem.endswith("k_proj")
        heads = config.num_key_value_heads if is_key else config.num_attention_heads
        rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        return rows.swapaxes(1, 2).reshape(weight.shape)
    if architecture.startswith("gemma") and stem.endswith("norm"):
        return weight + 1
    if architecture == "gpt2" and ".c_" in stem:
        return weight.t()
    return weight


def _llama3_factors(config: Any) -> Tensor:
    """As convert_hf_to_gguf.py computes them, by wave lengths."""
    rope, dim = config.rope_parameters, config.head_dim
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    lengths = 2 * torch.pi * rope["rope_theta"] ** (torch.arange(0, dim, 2) / dim)
    smooth = (rope["original_max_position_embeddings"] / lengths - rope["low_freq_factor"]) / (
        rope["high_freq_factor"] - rope["low_freq_factor"]
    )
    between = 1 / ((1 - smooth) / rope["factor"] + smooth)
    factors = torch.where(lengths > low, torch.tensor(rope["factor"]), between)
    return torch.where(lengths < high, 1.0, factors)
