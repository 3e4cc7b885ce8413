"""What the operations ask of the tensors that hold keys and values in pages."""

import torch
from torch import Tensor

__all__ = ["QUANTIZED", "require_cache", "require_equal_strides"]

# what a cache of keys and values may be quantized to
QUANTIZED = (torch.int8, torch.float8_e4m3fn)


def require_cache(
    dtype: torch.dtype,
    key_cache: Tensor,
    value_cache: Tensor,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
) -> None:
    """Refuses caches that are neither in `dtype` nor quantized with scales that fit.

    Raises:
        TypeError: a dtype does not fit.
        ValueError: a shape does not fit, or scales are missing or left over.
    """
    if key_cache.dim() != 4 or key_cache.shape != value_cache.shape:
        raise ValueError(
            f"key_cache {tuple(key_cache.shape)} and value_cache {tuple(value_cache.shape)}; "
            "expected two equal [blocks, block_size, num_kv_heads, head_dim]"
        )
    given = f"key_cache is {key_cache.dtype} and value_cache {value_cache.dtype}"
    if key_cache.dtype != value_cache.dtype or key_cache.dtype not in (dtype, *QUANTIZED):
        raise TypeError(f"{given}; expected {dtype}, torch.int8 or torch.float8_e4m3fn for both")
    is_quantized = key_cache.dtype in QUANTIZED
    for name, scale in (("key_scale", key_scale), ("value_scale", value_scale)):
        if (scale is not None) != is_quantized:
            raise ValueError(
                f"{given}, {name} is {'None' if scale is None else 'given'}; expected scales for "
                "quantized caches and for no others"
            )
        if scale is None:
            continue
        if scale.shape != key_cache.shape[:3]:
            raise ValueError(
                f"{name} {tuple(scale.shape)}; expected {tuple(key_cache.shape[:3])}, one for a "
                "token and head of the cache"
            )
        if scale.dtype not in (torch.float32, torch.float16):
            raise TypeError(f"{name} is {scale.dtype}; expected float32 or float16")


def require_equal_strides(
    key_cache: Tensor, value_cache: Tensor, key_scale: Tensor | None, value_scale: Tensor | None
) -> None:
    """Refuses caches that the Triton kernels would have to copy.

    Raises:
        ValueError: strides differ, heads are not contiguous, or scales are not.
    """
    strides = key_cache.stride(), value_cache.stride()
    if strides[0] != strides[1] or strides[0][3] != 1:
        raise ValueError(
            f"key_cache has strides {strides[0]} and value_cache {strides[1]}; the Triton kernels "
            "expect equal ones, the last 1; allocate both alike, with head_dim innermost"
        )
    if any(scale is not None and not scale.is_contiguous() for scale in (key_scale, value_scale)):
        raise ValueError(
            "key_scale or value_scale is not contiguous; the Triton kernels expect contiguous "
            "scales; allocate them by themselves"
        )
