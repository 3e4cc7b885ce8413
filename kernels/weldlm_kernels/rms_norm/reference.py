"""What rms_norm means, in plain PyTorch (Zhang and Sennrich 2019, arXiv:1910.07467)."""

import torch
from torch import Tensor

__all__ = ["rms_norm"]


def rms_norm(
    x: Tensor, weight: Tensor, residual: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """y = s / sqrt(mean(s^2) + eps) * weight, with s = x + residual.

    Returns y in the dtype of `x` and s in the dtype of `residual` (of `x` where there is none).
    """
    stream = x if residual is None else (x + residual).to(residual.dtype)
    # statistics in at least fp32, because squares of 16-bit values overflow or lose digits
    s = stream.to(torch.promote_types(stream.dtype, torch.float32))
    rstd = torch.rsqrt(s.square().mean(dim=-1, keepdim=True) + eps)
    return (s * rstd * weight).to(x.dtype), stream
