"""What attention refuses before any backend sees it."""

import torch
from torch import Tensor

from weldlm_kernels.attention.options import Options
from weldlm_kernels.dtypes import require_floating_point

__all__ = ["check_options", "check_tensors"]


def check_tensors(q: Tensor, k: Tensor, v: Tensor, q_offsets: Tensor, k_offsets: Tensor) -> None:
    """Raises: TypeError or ValueError where dtypes or shapes do not fit each other."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        require_floating_point(name, x)
        if x.dtype != q.dtype:
            raise TypeError(f"{name} is {x.dtype} and q {q.dtype}; expected one dtype; convert one")
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.dim() == k.dim() == v.dim() == 3:
        raise ValueError(f"{shapes}; expected three dimensions [tokens, heads, head_dim] each")
    if q.shape[2] != k.shape[2] or k.shape[:2] != v.shape[:2]:
        raise ValueError(f"{shapes}; expected one head_dim for q and k, one length for k and v")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"{shapes}; expected num_heads to be a multiple of num_kv_heads")
    if q_offsets.shape != k_offsets.shape or q_offsets.dim() != 1:
        raise ValueError(
            f"q_offsets {tuple(q_offsets.shape)} and k_offsets {tuple(k_offsets.shape)}; "
            "expected two equal shapes [num_sequences + 1]"
        )


def check_options(q: Tensor, options: Options) -> None:
    """Raises: ValueError where an option is outside its range or does not fit `q`."""
    for name, value in (("window", options.window), ("softcap", options.softcap)):
        if value is not None and value <= 0:
            raise ValueError(f"{name} is {value}; expected a value above 0, or None for none")
    if options.relative_bias is not None:
        _check_relative_bias(q, options.relative_bias, options)
    if options.alibi_slopes is not None:
        _check_alibi_slopes(q, options.alibi_slopes)
    _check_dropout(options.dropout_p, options.dropout_seed)


def _check_relative_bias(q: Tensor, relative_bias: Tensor, options: Options) -> None:
    if relative_bias.dim() != 2 or relative_bias.shape[1] != q.shape[1]:
        raise ValueError(
            f"relative_bias {tuple(relative_bias.shape)} and q {tuple(q.shape)}; expected "
            "[num_buckets, num_heads] with the heads of q"
        )
    least = 4 if options.is_bidirectional else 2
    if relative_bias.shape[0] < least:
        raise ValueError(f"relative_bias has {relative_bias.shape[0]} buckets; expected {least}")


def _check_alibi_slopes(q: Tensor, slopes: Tensor) -> None:
    if slopes.shape != q.shape[1:2]:
        raise ValueError(
            f"alibi_slopes {tuple(slopes.shape)} and q {tuple(q.shape)}; expected [num_heads] with "
            "the heads of q"
        )
    if slopes.requires_grad:
        raise ValueError(
            "alibi_slopes requires a gradient, which attention does not compute; expected "
            "constants: pass alibi_slopes.detach()"
        )


def _check_dropout(dropout_p: float, seed: Tensor | None) -> None:
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p is {dropout_p}; expected 0 <= dropout_p < 1")
    if dropout_p == 0.0:
        return
    if seed is None or seed.numel() != 1 or seed.dtype != torch.int64:
        given = "None" if seed is None else f"{seed.dtype} {tuple(seed.shape)}"
        raise ValueError(
            f"dropout_seed is {given} at dropout_p {dropout_p}; expected one int64, such as "
            "torch.randint(2**63 - 1, (1,), device=q.device)"
        )
