"""write_kv on a CPU: fp32 tokens in C++, into caches of fp32 or int8, with the reference's bits."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.cpu_cache import ELEMENTS, cache_view
from weldlm_kernels.rotary.cpu import rotary
from weldlm_kernels.write_kv import reference

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
    """Mutates the caches."""
    caches = key_cache, value_cache, key_scale, value_scale
    is_plain = key_cache.stride(3) == value_cache.stride(3) == 1
    if not (
        is_plain and key_cache.dtype in (torch.float32, torch.int8) and _write(k, v, *caches, slots)
    ):
        reference.write_kv(k, v, *caches, slots)


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


def _write(
    k: Tensor,
    v: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
    slots: Tensor,
) -> bool:
    """False, and nothing written, where a slot lies outside the cache."""
    k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (k, v))
    slots = slots.contiguous()
    return _cpu.write_kv(
        (k.data_ptr(), k.stride(0), k.stride(1)),
        (v.data_ptr(), v.stride(0), v.stride(1)),
        cache_view(key_cache, key_scale).fields,
        cache_view(value_cache, value_scale).fields,
        ELEMENTS[key_cache.dtype],
        slots.data_ptr(),
        (*k.shape, *key_cache.shape[:2]),
    )
