"""What linear means: torch's own linear layer."""

from torch import Tensor
from torch.nn import functional

__all__ = ["linear"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y = x @ weight^T + bias."""
    return functional.linear(x, weight, bias)
