"""What write_kv means, in plain PyTorch."""

import torch
from torch import Tensor

from weldlm_kernels.rotary.reference import rotary

__all__ = ["rotary_write_kv", "write_kv"]


def write_kv(
    k: Tensor,
    v: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
    slots: Tensor,
) -> None:
    """cache[slot // block_size, slot % block_size] = token, but for tokens whose slot is -1."""
    num_slots = key_cache.shape[0] * key_cache.shape[1]
    if slots.numel() > 0 and not -1 <= int(slots.min()) <= int(slots.max()) < num_slots:
        raise ValueError(
            f"slots lie from {int(slots.min())} to {int(slots.max())}; expected -1 to skip a "
            f"token, or a place below {num_slots}"
        )
    is_kept = slots >= 0
    places = slots[is_kept]
    block, place = places // key_cache.shape[1], places % key_cache.shape[1]
    for x, cache, scale in ((k, key_cache, key_scale), (v, value_cache, value_scale)):
        rows = x[is_kept]
        if scale is not None:
            rows, scale[block, place] = quantize(rows, cache.dtype, scale.dtype)
        cache[block, place] = rows.to(cache.dtype)


def quantize(x: Tensor, dtype: torch.dtype, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x / scale in steps of `dtype`, the largest magnitude of a head being the largest step."""
    most = 127.0 if dtype == torch.int8 else 448.0
    x = x.float()  # of 16 bits the quotient would be rounded twice
    scale = (x.abs().amax(-1) / most).to(scale_dtype)
    divisor = scale.float().masked_fill(scale == 0, 1.0).unsqueeze(-1)
    steps = (x / divisor).clamp(-most, most)
    return (steps.round() if dtype == torch.int8 else steps).to(dtype), scale


def rotary_write_kv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
    slots: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    is_interleaved: bool,
) -> Tensor:
    """Writes v and the rotation of k, and returns that of q."""
    k = rotary(k, cos, sin, positions, is_interleaved)
    write_kv(k, v, key_cache, value_cache, key_scale, value_scale, slots)
    return rotary(q, cos, sin, positions, is_interleaved)
