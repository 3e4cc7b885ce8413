"""Norms: of x, or of x + residual with the sum returned too."""

import torch
from torch import Tensor, nn

from weldlm.config import ModelConfig
from weldlm_kernels import layer_norm, rms_norm

__all__ = ["LayerNorm", "RMSNorm", "build_norm"]


class LayerNorm(nn.Module):
    """Layer normalization of x, or of x + residual with the sum returned too."""

    def __init__(self, hidden_size: int, eps: float, *, has_bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size)) if has_bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, eps=self.eps)

    def add(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return layer_norm(x, self.weight, self.bias, residual=residual, eps=self.eps)


class RMSNorm(nn.Module):
    """Root-mean-square normalization of x, or of x + residual with the sum returned too."""

    def __init__(self, hidden_size: int, eps: float, *, adds_one: bool = False) -> None:
        super().__init__()
        start = torch.zeros(hidden_size) if adds_one else torch.ones(hidden_size)
        self.weight = nn.Parameter(start)
        self.eps = eps
        self.weight_offset = 1.0 if adds_one else 0.0

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, eps=self.eps, weight_offset=self.weight_offset)

    def add(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return rms_norm(
            x, self.weight, residual=residual, eps=self.eps, weight_offset=self.weight_offset
        )


def build_norm(config: ModelConfig, size: int | None = None) -> LayerNorm | RMSNorm:
    """The norm of a model over `size` channels, hidden_size where None."""
    size = config.hidden_size if size is None else size
    if config.norm == "layer_norm":
        return LayerNorm(size, config.norm_eps, has_bias=config.has_norm_bias)
    return RMSNorm(size, config.norm_eps, adds_one=config.norm_adds_one)
