"""Tables of positions that are computed, not learned."""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from weldlm.config import RotaryScaling

__all__ = ["RotaryTable", "SinusoidalTable"]


class _Table(nn.Module):
    """Buffers that follow the model's device but keep their precision.

    Rounding angles to the 16 bits of a model would move far positions.
    """

    def _tensors(self, device: torch.device) -> dict[str, Tensor]:
        raise NotImplementedError

    def _fill(self, device: torch.device) -> None:
        for name, tensor in self._tensors(device).items():
            self.register_buffer(name, tensor, persistent=False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._fill(next(self.buffers()).device)
        return self


class RotaryTable(_Table):
    """cos and sin of position * base^(-2i / head_dim), [context_length, head_dim / 2], fp32."""

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        head_dim: int,
        context_length: int,
        *,
        base: float = 10_000.0,
        scaling: RotaryScaling | None = None,
    ) -> None:
        super().__init__()
        self.head_dim, self.context_length = head_dim, context_length
        self.base, self.scaling = base, scaling
        self._fill(torch.device("cpu"))

    def _tensors(self, device: torch.device) -> dict[str, Tensor]:
        exponents = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32)
        frequencies = 1.0 / self.base ** (exponents / self.head_dim)
        if self.scaling is not None:
            frequencies = _scaled(frequencies, self.scaling)
        positions = torch.arange(self.context_length, device=device, dtype=torch.float32)
        angles = torch.outer(positions, frequencies)
        return {"cos": angles.cos(), "sin": angles.sin()}


class SinusoidalTable(_Table):
    """sin and cos of position * 10000^(-2i / hidden_size), side by side, fp32.

    The frequencies are those of Vaswani et al. 2017 (arXiv:1706.03762), section 3.5; the order of
    the channels, first all sines and then all cosines, is that of their code.
    """

    values: Tensor  # [context_length, hidden_size]

    def __init__(self, hidden_size: int, context_length: int) -> None:
        super().__init__()
        self.hidden_size, self.context_length = hidden_size, context_length
        self._fill(torch.device("cpu"))

    def _tensors(self, device: torch.device) -> dict[str, Tensor]:
        exponents = torch.arange(0, self.hidden_size, 2, device=device, dtype=torch.float64)
        frequencies = 10_000.0 ** (-exponents / self.hidden_size)
        positions = torch.arange(self.context_length, device=device, dtype=torch.float64)
        angles = torch.outer(positions, frequencies)
        return {"values": torch.cat((angles.sin(), angles.cos()), dim=1).float()}


def _scaled(frequencies: Tensor, scaling: RotaryScaling) -> Tensor:
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    turns = scaling.original_context_length * frequencies / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return (1.0 - kept) * frequencies / scaling.factor + kept * frequencies
