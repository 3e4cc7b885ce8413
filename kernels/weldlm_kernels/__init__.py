"""Fused transformer operations, each beside a plain PyTorch reference that defines it.

Every operation lives in a folder of its own: `__init__.py` is the contract, `reference.py` what it
means, `gpu.py` the Triton kernels, `cpu.py` the compiled CPU path. `backend.py` decides which one a
call takes. The package knows nothing of models and can be used alone.
"""

from weldlm_kernels.attention import attention
from weldlm_kernels.attention.probabilities import attention_probabilities
from weldlm_kernels.backend import Choice, explain, use_backend
from weldlm_kernels.gated_mlp import activate, activate_gated
from weldlm_kernels.layer_norm import layer_norm
from weldlm_kernels.linear import PackedWeight, linear, pack_weight
from weldlm_kernels.linear_cross_entropy import linear_cross_entropy
from weldlm_kernels.linear_kl_divergence import linear_kl_divergence
from weldlm_kernels.paged_attention import paged_attention
from weldlm_kernels.quantized_linear import (
    PackedQuantizedWeight,
    QuantizedWeight,
    pack_quantized_weight,
    quantize_weight,
    quantized_linear,
)
from weldlm_kernels.rms_norm import rms_norm
from weldlm_kernels.rotary import rotary, rotary_in_place
from weldlm_kernels.sampling import Penalties, sample
from weldlm_kernels.write_kv import rotary_write_kv, write_kv

__all__ = [
    "Choice",
    "PackedQuantizedWeight",
    "PackedWeight",
    "Penalties",
    "QuantizedWeight",
    "activate",
    "activate_gated",
    "attention",
    "attention_probabilities",
    "explain",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "linear_kl_divergence",
    "pack_quantized_weight",
    "pack_weight",
    "paged_attention",
    "quantize_weight",
    "quantized_linear",
    "rms_norm",
    "rotary",
    "rotary_in_place",
    "rotary_write_kv",
    "sample",
    "use_backend",
    "write_kv",
]
