"""Models whose weights are filled in afterwards, and the first values of those that nobody has."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from weldlm.config import ModelConfig
from weldlm.heads import Model

__all__ = ["build_without_weights", "draw_weight", "fill_shared"]

M = TypeVar("M", bound=Model)


def build_without_weights(head: type[M], config: ModelConfig) -> M:
    """Builds a model whose weights take no memory yet."""
    with torch.device("meta"), _Undrawn():
        return head(config)


def draw_weight(name: str, weight: Tensor) -> Tensor:
    """A weight of a new head, from the distribution that all weights start with."""
    fresh = torch.zeros(weight.shape)
    if weight.dim() >= 2:
        return nn.init.normal_(fresh, std=0.02)
    return fresh + 1 if name.endswith("norm.weight") else fresh


def fill_shared(model: Model, state: dict[str, Tensor]) -> None:
    """Adds the other names of tensors that the model shares between its parts."""
    named = list(model.named_parameters(remove_duplicate=False))
    first = {id(weight): name for name, weight in reversed(named) if name in state}
    for name, weight in named:
        if name not in state and id(weight) in first:
            state[name] = state[first[id(weight)]]


class _Undrawn(TorchFunctionMode):
    """Leaves out the first values of weights: tensors without memory have none.

    Drawing them all the same would import torch's compiler, which takes longer than torch itself.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"]
        return func(*args, **kwargs)
