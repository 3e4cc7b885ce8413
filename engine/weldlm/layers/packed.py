"""A frozen linear layer whose weight is packed for the CPU kernels."""

from collections.abc import Callable
from typing import Any, NoReturn, Self

from torch import Tensor, nn

from weldlm_kernels import (
    PackedQuantizedWeight,
    PackedWeight,
    linear,
    quantized_linear,
)

__all__ = ["PackedLinear"]


class PackedLinear(nn.Module):
    """x @ W^T + bias for inference on the CPU; it is neither moved nor saved."""

    def __init__(self, weight: PackedWeight | PackedQuantizedWeight, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = weight.in_features, weight.out_features
        self.weight = weight
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.weight, PackedWeight):
            return linear(x, self.weight, self.bias)
        return quantized_linear(x, self.weight, self.bias)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        if fn(self.weight.values.new_empty(0)).device.type != "cpu":
            raise RuntimeError(
                "the weights of the model are packed for the CPU; move it before it is packed"
            )
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(self, *_: Any) -> NoReturn:
        raise RuntimeError(
            "the weights of the model are packed for the CPU; save the model before it is packed"
        )

    def extra_repr(self) -> str:
        bits = self.weight.bits if isinstance(self.weight, PackedQuantizedWeight) else 32
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={bits}"
