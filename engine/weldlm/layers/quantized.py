"""A frozen linear layer whose weight has 8 or 4 bits, as the base of adapters."""

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from weldlm_kernels import QuantizedWeight, quantized_linear
from weldlm_kernels.quantized_linear.weight import dequantize

__all__ = ["QuantizedLinear", "QuantizedTensors"]


class QuantizedTensors(nn.Module):
    """The tensors of a QuantizedWeight as buffers; what is fp32 stays so whatever the model's."""

    values: Tensor
    scales: Tensor
    minimums: Tensor | None

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__()
        self.bits, self.group_size = weight.bits, weight.group_size
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)
        self.register_buffer("minimums", weight.minimums)

    @property
    def weight(self) -> QuantizedWeight:
        return QuantizedWeight(
            values=self.values,
            scales=self.scales,
            minimums=self.minimums,
            bits=self.bits,
            group_size=self.group_size,
        )

    def dequantized(self) -> Tensor:
        """Returns what the integers stand for, [out_features, in_features] fp32."""
        return dequantize(self.values, self.scales, self.minimums, self.group_size)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        scales, minimums = self.scales, self.minimums
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.scales = scales.to(self.values.device)
        self.minimums = None if minimums is None else minimums.to(self.values.device)
        return self

    def extra_repr(self) -> str:
        return f"bits={self.bits}, group_size={self.group_size}"


class QuantizedLinear(nn.Module):
    """x @ W^T + bias with a quantized W; there is a gradient for x alone."""

    def __init__(self, weight: QuantizedTensors, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features = weight.weight.in_features
        self.out_features = weight.weight.out_features
        self.weight = weight
        self.bias = None if bias is None else bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return quantized_linear(x, self.weight.weight, self.bias)
