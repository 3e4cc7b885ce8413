"""What the operations ask of the dtypes of their tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["QUANTIZED", "refuse_gradient", "require_cache_dtype", "require_floating_point"]

# what a cache of keys and values may be quantized to
QUANTIZED = (torch.int8, torch.float8_e4m3fn)


def require_floating_point(name: str, x: Tensor) -> None:
    """Refuses integers, in which the mathematics of the operations would be cut off.

    Raises:
        TypeError: `x` has no floating-point dtype.
    """
    if not x.is_floating_point():
        raise TypeError(
            f"{name} is {x.dtype}; expected float32, float16, bfloat16 or float64; convert it"
        )


def refuse_gradient(op: str, tensors: Sequence[Tensor | None]) -> None:
    """Refuses tensors whose gradient an operation for inference would lose.

    Raises:
        RuntimeError: gradients are recorded and one of `tensors` requires one.
    """
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        raise RuntimeError(
            f"an argument of {op} requires a gradient, but {op} has none; expected inference; "
            "call it under torch.no_grad(), or detach its arguments"
        )


def require_cache_dtype(
    dtype: torch.dtype,
    key_cache: Tensor,
    value_cache: Tensor,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
) -> None:
    """Refuses caches that are neither in `dtype` nor quantized with scales that fit.

    Raises:
        TypeError: a dtype does not fit.
        ValueError: scales are missing, left over or of another shape.
    """
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
