"""The tensors of a GGUF file by the names of a Hugging Face folder, dequantized when read.

What llama.cpp changed on the way into the file is undone: rows of q and k of a Llama stand in the
order for rotary positions that turn pairs, norms of a Gemma have one added, and the matrices of a
GPT-2 are transposed.
"""

import re

import numpy as np
import torch
from torch import Tensor

from weldlm.gguf_file import GgufFile
from weldlm.weights.tensor_source import halves_of_pairs

__all__ = ["GgufTensors"]

_LAYER, _TENSOR = re.compile(r"blk\.(\d+)\.(.+)"), re.compile(r"(.+)\.(weight|bias)")
_MATRICES = {"F16": torch.float16, "BF16": torch.bfloat16}

_OUTSIDE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_INSIDE = _INSIDE | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GPT2_OUTSIDE = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_GPT2_INSIDE = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


class GgufTensors:
    """The tensors of a model in a file of a known architecture."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._architecture: str = file.require("general.architecture")
        self._names: dict[str, str] = {
            self._their_name(name): name
            for name in file.tensors
            if name != "rope_freqs.weight"  # part of the configuration
        }

    @property
    def names(self) -> list[str]:
        return list(self._names)

    @property
    def dtype(self) -> torch.dtype:
        """That of the embedding, fp32 where it is quantized; norms may be kept in more."""
        kind = self._file.tensors["token_embd.weight"].type_name
        return _MATRICES.get(kind, torch.float32)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def shape(self, name: str) -> tuple[int, ...]:
        shape = self._file.tensors[self._names[name]].shape
        return shape[::-1] if self._is_transposed(name) else shape

    def stored_as(self, name: str) -> str:
        return self._file.tensors[self._names[name]].type_name

    def read(self, name: str) -> Tensor:
        weight = self._stored(self._names[name])
        if self._architecture == "llama":
            weight = self._unpaired(name, weight)
        if self._architecture.startswith("gemma") and name.endswith("norm.weight"):
            weight = weight.float() - 1
        return weight.t() if self._is_transposed(name) else weight

    def _stored(self, name: str) -> Tensor:
        """In 16 bits where the file has them: what takes memory is then the file's own."""
        kind = self._file.tensors[name].type_name
        if kind in _MATRICES:
            return torch.from_numpy(self._file.stored(name).view(np.int16)).view(_MATRICES[kind])
        return torch.from_numpy(self._file.values(name))

    def _unpaired(self, name: str, weight: Tensor) -> Tensor:
        num_heads = self._file.require("llama.attention.head_count")
        if ".q_proj." in name:
            return halves_of_pairs(weight, num_heads)
        if ".k_proj." in name:
            num_kv_heads = self._file.get("llama.attention.head_count_kv") or num_heads
            return halves_of_pairs(weight, num_kv_heads)
        return weight

    def _is_transposed(self, name: str) -> bool:
        return self._architecture == "gpt2" and name.endswith(_TRANSPOSED)

    def _their_name(self, name: str) -> str:
        """The name as it is where it is not known, so that it is reported as surplus."""
        is_gpt2 = self._architecture == "gpt2"
        found = _TENSOR.fullmatch(name)
        if found is None:
            return name
        stem, ending = found.groups()
        in_layer = _LAYER.fullmatch(stem)
        if in_layer is None:
            outside = _GPT2_OUTSIDE if is_gpt2 else _OUTSIDE
            return f"{outside[stem]}.{ending}" if stem in outside else name
        layer, stem = in_layer.groups()
        inside = _GEMMA_INSIDE if self._architecture.startswith("gemma") else _INSIDE
        inside = _GPT2_INSIDE if is_gpt2 else inside
        block = f"transformer.h.{layer}" if is_gpt2 else f"model.layers.{layer}"
        return f"{block}.{inside[stem]}.{ending}" if stem in inside else name
