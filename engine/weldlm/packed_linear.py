"""Linear layers of a model that only reads its weights, with weights packed once.

On a CPU in fp32 this is faster than PyTorch's own product, which lays the weights out anew in every
call, and a row's bits do not depend on how many rows there are (docs/generation.md). What is packed
is a copy of the weights, kept as long as the object.
"""

import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from weldlm.available_memory import available_bytes
from weldlm.layers import LoraLinear
from weldlm_kernels import PackedWeight, linear, pack_weight
from weldlm_kernels.backend import choose

__all__ = ["PackedLinears"]

_MOST_BYTES = 4 << 30  # of a model whose weights are held twice


class PackedLinears:
    """A block in which the linear layers and the head of a model take packed weights.

    The weights must not change while the object is in use. Layers are told inside the block only,
    so that copies and checkpoints of the model know nothing of it.
    """

    _lock: ClassVar = threading.Lock()
    _num_open: ClassVar[WeakKeyDictionary[nn.Module, int]] = WeakKeyDictionary()  # of all threads

    def __init__(self, model: nn.Module) -> None:
        """Packs the weights that linear layers and the head have."""
        self._model = model
        packed = {id(w): (w, pack_weight(w)) for w in _weights(model)}
        mode = _Mode(packed)
        # what stands in the place of a method, by the object that has it
        self._methods: list[tuple[nn.Module, str, Callable[..., Tensor]]] = []
        for module in model.modules():
            if type(module) is nn.Linear and id(module.weight) in packed:
                product = partial(_product, packed[id(module.weight)][1], module)
                self._methods.append((module, "forward", product))
            elif isinstance(module, LoraLinear):
                self._add(module, "forward", mode)
        if hasattr(model, "scores"):  # the head may be the table of tokens
            self._add(model, "scores", mode)

    def _add(self, module: nn.Module, name: str, mode: "_Mode") -> None:
        method = partial(getattr(type(module), name), module)
        self._methods.append((module, name, partial(_in_mode, mode, method)))

    @staticmethod
    def takes(model: nn.Module) -> bool:
        """Whether its weights can be packed, and are few enough to be held twice."""
        weights = list(model.parameters())
        available = available_bytes("cpu")
        most = _MOST_BYTES if available is None else min(available, _MOST_BYTES)
        return (
            all(w.dtype == torch.float32 and choose("linear", w) == "cpu" for w in weights)
            and sum(w.nbytes for w in weights) <= most
        )

    def __enter__(self) -> None:
        with self._lock:
            self._num_open[self._model] = self._num_open.get(self._model, 0) + 1
            if self._num_open[self._model] == 1:
                for module, name, method in self._methods:
                    module.__dict__[name] = method

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._num_open[self._model] -= 1
            if self._num_open[self._model] == 0:
                for module, name, _ in self._methods:
                    del module.__dict__[name]


def _product(weight: PackedWeight, module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, weight, module.bias)


def _in_mode(mode: "_Mode", method: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Calls what multiplies by `functional.linear`.

    A mode around the whole forward would cost a call for each of its thousands of tensor methods.
    """
    with mode:
        return method(x)


class _Mode(TorchFunctionMode):
    def __init__(self, packed: dict[int, tuple[Tensor, PackedWeight]]) -> None:
        super().__init__()
        self._packed = packed

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is functional.linear and not kwargs and id(args[1]) in self._packed:
            bias = args[2] if len(args) > 2 else None
            return linear(args[0], self._packed[id(args[1])][1], bias)
        return func(*args, **(kwargs or {}))


def _weights(model: nn.Module) -> list[Tensor]:
    """All matrices but tables of embeddings that are no head."""
    scorer = getattr(model, "scorer", None)
    tables = {
        id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m is not scorer
    }
    return [w for w in model.parameters() if w.dim() == 2 and w.numel() and id(w) not in tables]
