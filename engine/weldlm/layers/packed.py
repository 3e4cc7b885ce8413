"""Frozen layers whose weights are packed for the CPU kernels: for inference, neither moved nor
saved as they are."""

from collections.abc import Callable
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from weldlm_kernels import (
    PackedQuantizedWeight,
    PackedWeight,
    linear,
    quantized_linear,
)
from weldlm_kernels.quantized_linear.weight import dequantize

__all__ = ["PackedEmbedding", "PackedLinear"]


class _Packed(nn.Module):
    """A weight that is no parameter, on the CPU."""

    weight: PackedWeight | PackedQuantizedWeight

    def dequantized(self) -> Tensor:
        """Returns the weight as plain numbers, [out_features, in_features] fp32."""
        weight = self.weight.unpack()
        if isinstance(weight, Tensor):
            return weight
        return dequantize(weight.values, weight.scales, weight.minimums, weight.group_size)

    @property
    def num_bytes(self) -> int:
        """What a step of inference reads of the weight."""
        parts = [self.weight.values]
        if isinstance(self.weight, PackedQuantizedWeight):
            parts += [p for p in (self.weight.scales, self.weight.minimums) if p is not None]
        return sum(part.nbytes for part in parts)

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


class PackedLinear(_Packed):
    """x @ W^T + bias."""

    def __init__(self, weight: PackedWeight | PackedQuantizedWeight, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = weight.in_features, weight.out_features
        self.weight = weight
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x, self.bias)

    def scores(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Returns x @ W^T + bias, for a head whose bias is the model's."""
        if isinstance(self.weight, PackedWeight):
            return linear(x, self.weight, bias)
        return quantized_linear(x, self.weight, bias)

    def extra_repr(self) -> str:
        bits = self.weight.bits if isinstance(self.weight, PackedQuantizedWeight) else 32
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={bits}"


class PackedEmbedding(_Packed):
    """A table of 8 bits, of which rows are looked up, and by which hidden states are scored."""

    weight: PackedQuantizedWeight

    def __init__(self, weight: PackedQuantizedWeight) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = weight.out_features, weight.in_features
        self.weight = weight

    def forward(self, ids: Tensor) -> Tensor:
        """Returns the rows of ids [T] in fp32.

        Raises:
            IndexError: an id is none of the table.
        """
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.num_embeddings:
            raise IndexError("index out of range in the table")
        panels = self.weight.values  # [panels, K / 4, 16, 4]
        num_channels = panels.shape[2]
        rows = panels[ids // num_channels, :, ids % num_channels].flatten(1)  # [T, K]
        integers = rows[:, : self.embedding_dim].to(torch.float32) - 128
        return integers * self.weight.scales[ids, None]

    def scores(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Returns x @ W^T + bias."""
        return quantized_linear(x, self.weight, bias)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, bits={self.weight.bits}"
