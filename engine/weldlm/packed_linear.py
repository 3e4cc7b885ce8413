"""Linear layers of a model that only reads its weights, by oneDNN with the weights laid out for it.

On a CPU in fp32 this is faster than PyTorch's own product, which lays the weights out anew in every
call, and a row's bits do not depend on how many rows there are, a single one aside
(docs/generation.md). The layout is a copy of the weights, kept as long as the object.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from weldlm.available_memory import available_bytes

__all__ = ["PackedLinears"]

_MOST_BYTES = 4 << 30  # of a model whose weights are held twice
_LEAST_ROWS = 2  # a single row takes another product, of other bits


class PackedLinears:
    """A block in which `linear` with the weights of a model is oneDNN's.

    The weights must not change while the object is in use.
    """

    def __init__(self, model: nn.Module) -> None:
        """Lays out the weights that linear layers and the head have."""
        self._mode = _Mode({id(w): (w, _pack(w)) for w in _weights(model)})

    @staticmethod
    def takes(model: nn.Module) -> bool:
        """Whether its weights can be laid out so, and are few enough to be held twice."""
        weights = list(model.parameters())
        available = available_bytes("cpu")
        most = _MOST_BYTES if available is None else min(available, _MOST_BYTES)
        return (
            all(w.device.type == "cpu" and w.dtype == torch.float32 for w in weights)
            and sum(w.nbytes for w in weights) <= most
            and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        )

    def __enter__(self) -> None:
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._mode.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]


class _Mode(TorchFunctionMode):
    def __init__(self, packed: dict[int, tuple[Tensor, Tensor]]) -> None:
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
            return _linear(args[0], self._packed[id(args[1])][1], bias)
        return func(*args, **(kwargs or {}))


def _weights(model: nn.Module) -> list[Tensor]:
    """All matrices but tables of embeddings that are no head."""
    head = getattr(model, "head_weight", None)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)} - {id(head)}
    return [w for w in model.parameters() if w.dim() == 2 and id(w) not in tables]


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach())  # type: ignore[no-any-return]


def _linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    if x.shape[0] >= _LEAST_ROWS or x.dim() > 2:
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]
    filled = functional.pad(x, (0, 0, 0, _LEAST_ROWS - x.shape[0]))
    rows: Tensor = torch.ops.mkldnn._linear_pointwise(filled, packed, bias, "none", [], "")
    return rows[: x.shape[0]]
