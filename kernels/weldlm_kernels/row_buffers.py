"""What the compiled norms of a CPU read: contiguous fp32."""

import torch
from torch import Tensor

__all__ = ["fp32", "fp32_factor"]


def fp32(x: Tensor) -> Tensor:
    return x.float().contiguous()


def fp32_factor(weight: Tensor | None, hidden_size: int, weight_offset: float) -> Tensor:
    """Returns weight_offset + weight, ones without a weight, [hidden_size]."""
    if weight is None:
        return torch.ones(hidden_size)
    return fp32(weight) if weight_offset == 0.0 else fp32(weight) + weight_offset
