"""What layer_norm means, in plain PyTorch (Ba et al. 2016, arXiv:1607.06450)."""

import torch
from torch import Tensor

__all__ = ["layer_norm"]


def layer_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    weight_offset: float,
) -> tuple[Tensor, Tensor]:
    """y = (s - mean(s)) / sqrt(var(s) + eps) * w + bias, with s = x + residual and
    w = weight_offset + weight.

    Returns y in the dtype of `x` and s in the dtype of `residual` (of `x` where there is none).
    """
    stream = x if residual is None else (x + residual).to(residual.dtype)
    # statistics in at least fp32, because squares of 16-bit values overflow or lose digits
    s = stream.to(torch.promote_types(stream.dtype, torch.float32))
    mean = s.mean(dim=-1, keepdim=True)
    centered = s - mean
    rstd = torch.rsqrt(centered.square().mean(dim=-1, keepdim=True) + eps)
    y = centered * rstd
    if weight is not None:
        y = y * (weight_offset + weight.to(y.dtype))
    if bias is not None:
        y = y + bias
    return y.to(x.dtype), stream
