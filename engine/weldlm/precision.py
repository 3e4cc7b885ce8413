"""In which dtype the matrix products of a training run are computed."""

import logging
from contextlib import AbstractContextManager
from typing import Literal

import torch

__all__ = ["Dtype", "autocast", "has_fast_bfloat16", "resolve_dtype"]

Dtype = Literal["float32", "bfloat16", "float16"]

_logger = logging.getLogger(__name__)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def resolve_dtype(dtype: Literal["auto"] | Dtype, device: torch.device) -> Dtype:
    """Returns the dtype of the matrix products: for "auto", bf16 where the hardware has it."""
    is_fast = has_fast_bfloat16(device)
    if dtype == "auto":
        return "bfloat16" if is_fast else "float32"
    if dtype == "bfloat16" and not is_fast:
        _logger.warning(
            "this %s has no bf16 instructions: bfloat16 is several times slower than float32",
            device.type,
        )
    if dtype == "float16" and device.type == "cpu":
        _logger.warning("float16 on a CPU is many times slower than float32; it is for GPUs")
    return dtype


def autocast(dtype: Dtype, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a forward runs; weights stay in fp32."""
    half = torch.float16 if dtype == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype=half, enabled=dtype != "float32")
