"""What rms_norm means, in plain PyTorch (Zhang and Sennrich 2019, arXiv:1910.07467)."""

import torch
from torch import Tensor

__all__ = ["rms_norm"]


def rms_norm(
    x: Tensor, weight: Tensor | None, residual: Tensor | None, eps: float, weight_offset: float
) -> tuple[Tensor, Tensor]:
    """y = s / sqrt(mean(s^2) + eps) * (weight_offset + weight), with s = x + residual.

    Returns y in the dtype of `x` and s in the dtype of `residual` (of `x` where there is none).
    """
    stream = x if residual is None else (x + residual).to(residual.dtype)
    # statistics in at least fp32, because squares of 16-bit values overflow or lose digits
    s = stream.to(torch.promote_types(stream.dtype, torch.float32))
    rstd = torch.rsqrt(s.square().mean(dim=-1, keepdim=True) + eps)
    y = s * rstd
    if weight is not None:
        y = y * (weight_offset + weight.to(y.dtype))
    return y.to(x.dtype), stream
