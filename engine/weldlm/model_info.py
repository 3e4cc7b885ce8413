"""What a model at a path is and what it takes, from its headers alone."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from weldlm.config import HeadKind, ModelConfig
from weldlm.heads import HEADS
from weldlm.memory import cache_bytes
from weldlm.weights import StoredModel, open_model
from weldlm.weights.new_weights import build_without_weights

__all__ = ["BYTES_OF_NUMBER", "ModelInfo", "count_stored_parameters", "read_model_info"]

# dtypes in which models are loaded
BYTES_OF_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model on the disk."""

    path: Path
    format: str
    config: ModelConfig
    head: HeadKind
    num_parameters: int
    stored_as: dict[str, int]  # how many numbers the files hold in each type
    num_bytes: dict[str, int]  # of all weights in each dtype
    # of keys and values of a token in each dtype; of a token of the source and of the target each
    # where there is an encoder besides, none of a model that does not generate
    cache_bytes_per_token: dict[str, int]


def read_model_info(path: str | Path) -> ModelInfo:
    """Reads configuration and headers, no weights.

    Args:
        path: what `load_pretrained` takes.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: it is damaged or not supported.
    """
    stored = open_model(path)
    config, num_parameters = stored.config, count_stored_parameters(stored)
    generates = stored.head in ("causal_lm", "seq2seq_lm")
    numbers: Counter[str] = Counter()
    for name in stored.tensors.names:
        numbers[stored.tensors.stored_as(name)] += math.prod(stored.tensors.shape(name))
    return ModelInfo(
        path=stored.path,
        format=stored.format,
        config=config,
        head=stored.head,
        num_parameters=num_parameters,
        stored_as=dict(numbers.most_common()),
        num_bytes={dtype: num_parameters * size for dtype, size in BYTES_OF_NUMBER.items()},
        cache_bytes_per_token={
            dtype: cache_bytes(config, 1, dtype=getattr(torch, dtype))
            for dtype in BYTES_OF_NUMBER
            if generates
        },
    )


def count_stored_parameters(stored: StoredModel) -> int:
    """Number of weights in the files, counting a head that is tied to the embedding once."""
    tensors = stored.tensors
    if stored.is_quantized:
        model = build_without_weights(HEADS[stored.head], stored.config)
        return sum(weight.numel() for weight in model.parameters())
    skipped = {"lm_head.weight"} if stored.config.tie_embeddings else set()
    return sum(math.prod(tensors.shape(name)) for name in tensors.names if name not in skipped)
