"""The blocks that a transformer is made of, on packed sequences.

Every layer takes tokens end to end, [T, hidden_size]; what is a sequence is said by the batch. A
block hands on two tensors: the residual stream and the last sublayer's output, which the next norm
adds to the stream in the same pass.
"""

from weldlm.layers.attention import Attention, CrossAttention
from weldlm.layers.block import Block, Mlp
from weldlm.layers.context import Cache, LayerContext, Memory, Pages
from weldlm.layers.embedding import Embedding
from weldlm.layers.lora import BaseWeight, LoraLinear, LoraPair
from weldlm.layers.norm import LayerNorm, RMSNorm, build_norm
from weldlm.layers.packed import PackedEmbedding, PackedLinear
from weldlm.layers.positions import RotaryTable, SinusoidalTable
from weldlm.layers.quantized import QuantizedLinear, QuantizedTensors

__all__ = [
    "Attention",
    "BaseWeight",
    "Block",
    "Cache",
    "CrossAttention",
    "Embedding",
    "LayerContext",
    "LayerNorm",
    "LoraLinear",
    "LoraPair",
    "Memory",
    "Mlp",
    "PackedEmbedding",
    "PackedLinear",
    "Pages",
    "QuantizedLinear",
    "QuantizedTensors",
    "RMSNorm",
    "RotaryTable",
    "SinusoidalTable",
    "build_norm",
]
