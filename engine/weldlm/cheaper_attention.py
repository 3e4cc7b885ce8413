"""Models with cheaper attention made of others: fewer key/value heads, or a sliding window.

What either costs in quality is to be measured (`weldlm convert` does); fine-tuning wins some back.
"""

import dataclasses
from typing import TypeVar

import torch
from torch import Tensor

from weldlm.config import ModelConfig
from weldlm.families import FAMILIES
from weldlm.heads import Model

__all__ = ["group_kv_heads", "with_window"]

M = TypeVar("M", bound=Model)

# without windows of its own -> the same architecture with one for every layer
_WITH_WINDOW = {"llama": "mistral"}


def group_kv_heads(model: M, num_kv_heads: int) -> M:
    """Returns a model in which several query heads share a head of keys and values.

    A shared head is the mean of those that it replaces (Ainslie et al. 2023, GQA, arXiv:2305.13245,
    section 2.1), and the cache shrinks with their number.

    Args:
        model: with more heads of keys and values.
        num_kv_heads: a divisor of those that it has.

    Raises:
        ValueError: it is none, or the model's family has no grouped heads.
    """
    config = model.config
    if not 1 <= num_kv_heads <= config.num_kv_heads or config.num_kv_heads % num_kv_heads:
        raise ValueError(
            f"num_kv_heads is {num_kv_heads}; expected a divisor of the model's "
            f"{config.num_kv_heads}"
        )
    grouped = dataclasses.replace(config, num_kv_heads=num_kv_heads)
    _require_written(grouped, "num_kv_heads")
    q = config.num_heads * config.head_dim
    weights = {
        name: _grouped(weight, q, config, num_kv_heads) if ".attention.qkv." in name else weight
        for name, weight in model.state_dict().items()
    }
    return _rebuilt(model, grouped, weights)


def with_window(model: M, window: int) -> M:
    """Returns the model with attention to the last `window` tokens in every layer.

    Args:
        model: a decoder with full attention.
        window: tokens, the query's own among them.

    Raises:
        ValueError: it is below 1 or beyond the model's context, or the family has no windows.
    """
    config = model.config
    if not 1 <= window <= config.context_length:
        raise ValueError(
            f"window is {window}; expected 1 to the model's context_length {config.context_length}"
        )
    family = _WITH_WINDOW.get(config.family, config.family)
    small = dataclasses.replace(config, family=family, window=window)  # type: ignore[arg-type]
    _require_written(small, "window")
    return _rebuilt(model, small, model.state_dict())


def _grouped(weight: Tensor, q: int, config: ModelConfig, num_kv_heads: int) -> Tensor:
    """[q + 2 kv, ...] with the means of neighboring heads of keys, and of values."""
    kv = weight[q:].unflatten(0, (2, num_kv_heads, -1, config.head_dim))
    return torch.cat((weight[:q], kv.mean(dim=2).flatten(0, 2)))


def _rebuilt(model: M, config: ModelConfig, weights: dict[str, Tensor]) -> M:
    first = next(model.parameters())
    built = type(model)(config).to(first.device, first.dtype)
    built.load_state_dict(weights)
    return built.train(model.training)


def _require_written(config: ModelConfig, field: str) -> None:
    """Whether the family's config.json can say it."""
    family = FAMILIES[config.family]
    expected = getattr(config, field)
    if getattr(family.read(family.write(config)), field) != expected:
        raise ValueError(
            f"{field} is {expected}, which no {config.family} model has; expected a family with "
            "it, such as llama or mistral; leave it out"
        )
