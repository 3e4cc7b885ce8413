"""The `.bin` models of llama2.c: seven sizes of 4 bytes, then the weights in fp32.

The layout is that of its `export.py`, version 0: each kind of tensor for all layers, one after the
other. The tensors get the names of a Llama in a Hugging Face folder, and q and k its order of rows.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weldlm.weights.tensor_source import halves_of_pairs

__all__ = ["Llama2cTensors"]

_SIZES = (
    "dim",
    "hidden_dim",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "vocab_size",
    "max_seq_len",
)
_HEADER = struct.Struct(f"<{len(_SIZES)}i")
_LATER_VERSIONS = 0x616B3432  # "ak42", where the first size stands
_BOS, _EOS = 1, 2
_TABLES = "freq_cis"


@dataclass(frozen=True, slots=True)
class _Kind:
    """Tensors that follow each other, one a layer."""

    name: str
    shape: tuple[int, ...]
    count: int = 1
    num_heads: int = 0  # of q and k, whose rows are reordered


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies."""

    begin: int  # byte of the file
    shape: tuple[int, ...]
    num_heads: int


class Llama2cTensors:
    """The tensors of such a file, and its header as the fields of a config.json.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the header is wrong, or the file is not as long as it says; names the field.
    """

    dtype = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sizes, self._is_tied = _read_header(path)
        kinds = _kinds(self._sizes, is_tied=self._is_tied)
        expected = _HEADER.size + sum(4 * math.prod(kind.shape) * kind.count for kind in kinds)
        found = path.stat().st_size
        if found != expected:
            raise ValueError(
                f"{path} has {found} bytes; expected {expected} from the sizes in its header "
                f"({', '.join(f'{name} {size}' for name, size in self._sizes.items())}); "
                "get it again"
            )
        self._places = _places(kinds)

    @property
    def fields(self) -> dict[str, Any]:
        sizes = self._sizes
        return {
            "model_type": "llama",
            "vocab_size": sizes["vocab_size"],
            "max_position_embeddings": sizes["max_seq_len"],
            "hidden_size": sizes["dim"],
            "num_hidden_layers": sizes["n_layers"],
            "num_attention_heads": sizes["n_heads"],
            "num_key_value_heads": sizes["n_kv_heads"],
            "intermediate_size": sizes["hidden_dim"],
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": self._is_tied,
            "bos_token_id": _BOS,
            # texts of the training data follow each other with nothing but a <s> between them
            "eos_token_id": [_EOS, _BOS],
        }

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].shape

    def stored_as(self, name: str) -> str:  # noqa: ARG002 (all alike)
        return "F32"

    def read(self, name: str) -> Tensor:
        place = self._places[name]
        # copy-on-write: torch refuses to view what cannot be written
        data = np.memmap(self.path, "<f4", "c", place.begin, place.shape)
        weight = torch.from_numpy(data)
        return halves_of_pairs(weight, place.num_heads) if place.num_heads else weight


def _read_header(path: Path) -> tuple[dict[str, int], bool]:
    """Sizes by name, and whether the head shares the embedding."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a .bin model of llama2.c")
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise ValueError(
            f"{path} has {len(head)} bytes; expected a header of {_HEADER.size}; get it again"
        )
    sizes = dict(zip(_SIZES, _HEADER.unpack(head), strict=True))
    if sizes["dim"] == _LATER_VERSIONS:
        raise ValueError(
            f"{path} is of a later version of llama2.c's format; expected version 0, which "
            "`export.py --version 0` writes"
        )
    # a negative size of the vocabulary says that the head has weights of its own
    is_tied, sizes["vocab_size"] = sizes["vocab_size"] > 0, abs(sizes["vocab_size"])
    most = path.stat().st_size // 4
    for name, size in sizes.items():
        if not 1 <= size <= most:
            raise ValueError(
                f"{path}: {name} is {size}; expected 1 to {most}, the numbers that its "
                f"{path.stat().st_size} bytes can hold; is it a model of llama2.c?"
            )
    for name, unit in (("dim", 2 * sizes["n_heads"]), ("n_heads", sizes["n_kv_heads"])):
        if sizes[name] % unit:
            raise ValueError(f"{path}: {name} is {sizes[name]}; expected a multiple of {unit}")
    return sizes, is_tied


def _kinds(sizes: dict[str, int], *, is_tied: bool) -> list[_Kind]:
    """In the order of the file."""
    dim, hidden = sizes["dim"], sizes["hidden_dim"]
    num_heads, num_kv_heads = sizes["n_heads"], sizes["n_kv_heads"]
    kv, num_layers = dim // num_heads * num_kv_heads, sizes["n_layers"]
    block = "model.layers.{layer}"
    attn, mlp = f"{block}.self_attn", f"{block}.mlp"
    kinds = [
        _Kind("model.embed_tokens.weight", (sizes["vocab_size"], dim)),
        _Kind(f"{block}.input_layernorm.weight", (dim,), num_layers),
        _Kind(f"{attn}.q_proj.weight", (dim, dim), num_layers, num_heads),
        _Kind(f"{attn}.k_proj.weight", (kv, dim), num_layers, num_kv_heads),
        _Kind(f"{attn}.v_proj.weight", (kv, dim), num_layers),
        _Kind(f"{attn}.o_proj.weight", (dim, dim), num_layers),
        _Kind(f"{block}.post_attention_layernorm.weight", (dim,), num_layers),
        _Kind(f"{mlp}.gate_proj.weight", (hidden, dim), num_layers),
        _Kind(f"{mlp}.down_proj.weight", (dim, hidden), num_layers),
        _Kind(f"{mlp}.up_proj.weight", (hidden, dim), num_layers),
        _Kind("model.norm.weight", (dim,)),
        # cosines and sines, which are computed
        _Kind(_TABLES, (sizes["max_seq_len"], dim // num_heads)),
    ]
    head = _Kind("lm_head.weight", (sizes["vocab_size"], dim))
    return kinds if is_tied else [*kinds, head]


def _places(kinds: list[_Kind]) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    begin = _HEADER.size
    for kind in kinds:
        for layer in range(kind.count):
            if kind.name != _TABLES:
                name = kind.name.format(layer=layer)
                places[name] = _Place(begin, kind.shape, kind.num_heads)
            begin += 4 * math.prod(kind.shape)
    return places
