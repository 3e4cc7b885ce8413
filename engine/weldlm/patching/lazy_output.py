"""Outputs of transformers whose logits are computed when asked for.

`outputs.logits`, `outputs["logits"]`, `outputs[1]` and `to_tuple()` compute them, once. While
gradients are on, `items()` and `values()` show a placeholder instead: what only walks over the
outputs of a training step, as accelerate and DDP do, should not pay for logits that nobody reads.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["LazyLogits", "lazy_output"]


class LazyLogits:
    """Stands for logits [B, S, vocab_size] that nobody has asked for; calling it computes them."""

    def __init__(self, compute: Callable[[], Tensor], device_type: str) -> None:
        self._compute = compute
        self._device_type = device_type
        self._is_autocast = torch.is_autocast_enabled(device_type)
        self._dtype = torch.get_autocast_dtype(device_type)

    def __call__(self) -> Tensor:
        with torch.autocast(self._device_type, dtype=self._dtype, enabled=self._is_autocast):
            return self._compute()

    def __repr__(self) -> str:
        return "<logits, computed when asked for>"


def lazy_output(name: str, /, **values: Any) -> Any:
    """An output of transformers.modeling_outputs whose `logits` may be `LazyLogits`."""
    return _lazy_class(name)(**values)


@cache
def _lazy_class(name: str) -> Any:
    from transformers import modeling_outputs

    output = getattr(modeling_outputs, name)
    return type(f"Lazy{name}", (_LazyOutput, output), {"_eager_class": output})


class _LazyOutput(OrderedDict[str, Any]):
    """What is put before an output class: `logits` is a property, and lookups go through it."""

    _eager_class: type[Any]

    def __post_init__(self) -> None:
        values = {field.name: vars(self)[field.name] for field in fields(self)}  # type: ignore[arg-type]
        given = values["loss"]
        if isinstance(given, dict):
            # made from the items of another output
            values = dict.fromkeys(values) | given
            vars(self).update(values)
        for name, value in values.items():
            if value is not None:
                OrderedDict.__setitem__(self, name, value)

    @property
    def logits(self) -> Tensor | None:
        value = vars(self)["logits"]
        if isinstance(value, LazyLogits):
            self.logits = value()
        return vars(self)["logits"]  # type: ignore[no-any-return]

    @logits.setter
    def logits(self, value: Any) -> None:
        vars(self)["logits"] = value
        if "logits" in self.keys():
            OrderedDict.__setitem__(self, "logits", value)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._by_name(key)
        names = list(self.keys())[key]
        return self[names] if isinstance(names, str) else tuple(self[name] for name in names)

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self:
            return default
        return self[key]

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(self[name] for name in self.keys())

    def items(self) -> Any:
        self._settle()
        return super().items()

    def values(self) -> Any:
        self._settle()
        return super().values()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={vars(self)[name]!r}" for name in self)
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> Any:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return self._eager_class, tuple(getattr(self, name) for name in names)

    def _by_name(self, name: str) -> Any:
        if name == "logits":
            return self.logits
        if name in self.keys():
            return OrderedDict.__getitem__(self, name)
        return super().__getitem__(name)  # an older name, which newer versions take

    def _settle(self) -> None:
        if not torch.is_grad_enabled():
            _ = self.logits
