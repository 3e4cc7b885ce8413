"""Modules that work on each row alone: norms and activations."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from weldlm_kernels import functional as fused
from weldlm_kernels import rms_norm
from weldlm_kernels.backend import choose

__all__ = ["gelu_tanh", "layer_norm_rows", "rms_norm_rows"]


def layer_norm_rows(module: Any, input: Tensor) -> Tensor:
    return fused.layer_norm(input, module.normalized_shape, module.weight, module.bias, module.eps)


def rms_norm_rows(module: Any, hidden_states: Tensor) -> Tensor:
    x, weight = hidden_states, module.weight
    is_fused = (
        x.dtype == weight.dtype
        and x.numel() > 0
        and not torch.is_autocast_enabled(x.device.type)
        and choose("rms_norm", x) != "reference"
    )
    if is_fused:
        return rms_norm(x, weight, eps=module.variance_epsilon)
    result: Tensor = type(module).forward(module, x)
    return result


def gelu_tanh(_: Any, input: Tensor) -> Tensor:
    """The formula that the module spells out in eight operations."""
    return functional.gelu(input, approximate="tanh")
