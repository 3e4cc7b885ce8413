"""What rotary means, in plain PyTorch (Su et al. 2021, RoFormer, arXiv:2104.09864)."""

import torch
from torch import Tensor

__all__ = ["rotary", "rotary_in_place"]


def rotary(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool) -> Tensor:
    """Rotates the pairs (a, b) of each head by the angle of its position.

    (a, b) -> (a cos - b sin, b cos + a sin); pairs are neighbors where `is_interleaved` (llama2.c,
    GPT-J), else the two halves of the rotated width (Hugging Face Llama, GPT-NeoX).
    """
    width = 2 * cos.shape[-1]
    cos, sin = cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)  # [T, 1, width / 2]
    rotated, kept = x[..., :width], x[..., width:]
    if is_interleaved:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        pairs = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
    else:
        a, b = rotated.chunk(2, dim=-1)
        pairs = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    return torch.cat((pairs.to(x.dtype), kept), dim=-1)


def rotary_in_place(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, is_interleaved: bool
) -> None:
    """Writes the rotation of `x` over it."""
    x.copy_(rotary(x, cos, sin, positions, is_interleaved))
