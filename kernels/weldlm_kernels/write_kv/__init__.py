"""write_kv: new keys and values into the pages of a cache, with rotary positions in one launch.

`rotary_write_kv` is what a decoder does between its projection and `paged_attention`: q and k are
rotated, k and v go to their slots. `write_kv` is for models without rotary positions. A cache may
be int8 or fp8 (e4m3): then each head of a token gets a scale by its largest magnitude. For
inference: there is no gradient.
"""

from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.cache_layout import require_cache
from weldlm_kernels.dtypes import refuse_gradient, require_floating_point
from weldlm_kernels.registration import register

__all__ = ["rotary_write_kv", "write_kv"]


def write_kv(
    k: Tensor,
    v: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
    *,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
) -> None:
    """Mutates the caches: token t goes to slot `slots[t]`, in the block `slot // block_size`.

    Args:
        k: [T, num_kv_heads, head_dim], fp32, fp16 or bf16 (fp64 takes the reference).
        v: like `k`.
        key_cache: [blocks, block_size, num_kv_heads, head_dim] in the dtype of `k`, or int8 or
            float8_e4m3fn with scales.
        value_cache: like `key_cache`.
        slots: [T] int64, all different; a token whose slot is -1 is not written.
        key_scale: [blocks, block_size, num_kv_heads] fp32 or fp16, written with an int8 or fp8
            cache: the largest magnitude of the head by that of the dtype.
        value_scale: like `key_scale`.

    Raises:
        ValueError: shapes do not fit.
        TypeError: dtypes do not fit.
        RuntimeError: an argument requires a gradient.
    """
    caches = key_cache, value_cache, key_scale, value_scale
    refuse_gradient("write_kv", (k, v, *caches))
    _check(k, v, key_cache, slots, caches)
    call = _write_op if torch.compiler.is_compiling() else _write
    call(k, v, *caches, slots, choose("write_kv", k))


def rotary_write_kv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    *,
    is_interleaved: bool = False,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
) -> Tensor:
    """Mutates the caches, as `write_kv` does, after `rotary` of k; returns `rotary` of q.

    Args:
        q: [T, num_heads, head_dim] in the dtype of `k`.
        k, v, key_cache, value_cache, slots, key_scale, value_scale: as for `write_kv`.
        cos, sin, positions, is_interleaved: as for `rotary`; positions of all tokens.

    Returns:
        [T, num_heads, head_dim], q rotated.

    Raises:
        ValueError: shapes do not fit.
        TypeError: dtypes do not fit.
        RuntimeError: an argument requires a gradient.
    """
    caches = key_cache, value_cache, key_scale, value_scale
    refuse_gradient("rotary_write_kv", (q, k, v, *caches, cos, sin))
    _check(k, v, key_cache, slots, caches)
    _check_rotation(q, k, cos, sin, positions)
    call = _rotary_write_op if torch.compiler.is_compiling() else _rotary_write
    backend = choose("write_kv", k)
    return call(q, k, v, *caches, slots, cos, sin, positions, is_interleaved, backend)


def _check(k: Tensor, v: Tensor, key_cache: Tensor, slots: Tensor, caches: tuple[Any, ...]) -> None:
    require_floating_point("k", k)
    require_cache(k.dtype, *caches)
    shapes = f"k {tuple(k.shape)}, v {tuple(v.shape)}, slots {tuple(slots.shape)}"
    if k.dim() != 3 or k.shape != v.shape or slots.shape != k.shape[:1]:
        raise ValueError(f"{shapes}; expected two [T, num_kv_heads, head_dim] and [T]")
    if k.shape[1:] != key_cache.shape[2:]:
        raise ValueError(
            f"{shapes} and key_cache {tuple(key_cache.shape)}; expected the same num_kv_heads and "
            "head_dim"
        )
    if k.dtype != v.dtype or slots.dtype != torch.int64:
        raise TypeError(
            f"k is {k.dtype}, v {v.dtype}, slots {slots.dtype}; expected one dtype and int64"
        )


def _check_rotation(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, positions: Tensor) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, positions {tuple(positions.shape)}"
    if q.dim() != 3 or q.shape[::2] != k.shape[::2] or positions.shape != k.shape[:1]:
        raise ValueError(f"{shapes}; expected the tokens and the head_dim of k")
    if cos.dim() != 2 or cos.shape != sin.shape or 2 * cos.shape[1] > k.shape[2]:
        raise ValueError(
            f"cos {tuple(cos.shape)} and sin {tuple(sin.shape)} do not fit head_dim {k.shape[2]}; "
            "expected equal [context_length, rotated / 2] with rotated <= head_dim"
        )
    if q.dtype != k.dtype:
        raise TypeError(f"q is {q.dtype} and k {k.dtype}; expected one dtype")


def _write(*arguments: Any) -> None:
    *inputs, backend = arguments
    implementation("write_kv", backend).write_kv(*inputs)


def _write_fake(*_: Any) -> None:
    pass


def _rotary_write(*arguments: Any) -> Tensor:
    *inputs, backend = arguments
    return implementation("write_kv", backend).rotary_write_kv(*inputs)  # type: ignore[no-any-return]


def _rotary_write_fake(q: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(q, memory_format=torch.contiguous_format)


_CACHES = (
    "Tensor(a!) key_cache, Tensor(b!) value_cache, Tensor(c!)? key_scale, Tensor(d!)? value_scale"
)
_write_op = register(
    f"write_kv(Tensor k, Tensor v, {_CACHES}, Tensor slots, str backend) -> ()", _write, _write_fake
)
_rotary_write_op = register(
    f"rotary_write_kv(Tensor q, Tensor k, Tensor v, {_CACHES}, Tensor slots, Tensor cos,"
    " Tensor sin, Tensor positions, bool is_interleaved, str backend) -> Tensor",
    _rotary_write,
    _rotary_write_fake,
)
