"""Linear layers of a model that only reads its weights, with weights packed once.

On a CPU in fp32 this is faster than PyTorch's own product, which lays the weights out anew in every
call, and a row's bits do not depend on how many rows there are (docs/generation.md). What is packed
is a copy of the weights, kept as long as the object.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from weldlm.available_memory import available_bytes
from weldlm_kernels import PackedWeight, linear, pack_weight
from weldlm_kernels.backend import choose

__all__ = ["PackedLinears"]

_MOST_BYTES = 4 << 30  # of a model whose weights are held twice


class PackedLinears:
    """A block in which `linear` takes the packed weights of a model.

    The weights must not change while the object is in use.
    """

    def __init__(self, model: nn.Module) -> None:
        """Packs the weights that linear layers and the head have, where they are not packed yet."""
        weights = _weights(model)
        self._mode = _Mode({id(w): (w, pack_weight(w)) for w in weights}) if weights else None

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
        if self._mode is not None:
            self._mode.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._mode is not None:
            self._mode.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]


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
