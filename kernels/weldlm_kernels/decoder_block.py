"""A layer of a decoder on a CPU, from norm to MLP, in one call of the compiled kernels.

For inference on packed weights and pages of keys and values. A step of few rows has a dozen
operations a layer, each of which costs Python as much as some of them take. Results have the bits
of the operations called one by one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.cpu_cache import ELEMENTS, cache_view
from weldlm_kernels.gated_mlp.reference import ACTIVATIONS
from weldlm_kernels.linear import PackedWeight
from weldlm_kernels.paged_attention.cpu import SPLIT_LENGTH
from weldlm_kernels.quantized_linear import PackedQuantizedWeight
from weldlm_kernels.row_buffers import fp32

__all__ = ["BlockNorm", "BlockPages", "BlockShape", "DecoderBlock", "PackedLayer"]

PackedLayer = tuple[PackedWeight | PackedQuantizedWeight, Tensor | None]  # weight and bias

_FORMATS = {8: 1, 4: 2}  # csrc/cpu/decoder_block.hpp; 0 is fp32
_NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShape:
    """What a block does with its weights."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    activation: str  # one of `activate`
    is_gated: bool  # gate and up come from one projection
    window: int | None
    scale: float | None  # of scores; head_dim^-0.5 where None
    softcap: float | None


@dataclass(frozen=True, slots=True)
class BlockNorm:
    """A norm's weights, fp32 and contiguous."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    is_rms: bool

    @property
    def fields(self) -> tuple[int, int, float, bool]:
        bias = 0 if self.bias is None else self.bias.data_ptr()
        return self.weight.data_ptr(), bias, self.eps, self.is_rms


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPages:
    """Where keys and values lie, as `paged_attention` and `write_kv` take it."""

    keys: Tensor
    values: Tensor
    key_scale: Tensor | None
    value_scale: Tensor | None
    slots: Tensor  # [T] int64
    block_table: Tensor  # [B, max_blocks] int32
    lengths: Tensor  # [B] int32, with the new tokens
    q_offsets: Tensor  # [B + 1] int32
    split_length: int | None

    @property
    def places(self) -> tuple[int, int, int]:
        return self.block_table.data_ptr(), self.lengths.data_ptr(), self.q_offsets.data_ptr()


class DecoderBlock:
    """Packed weights of a layer with norms before attention and MLP; q, k and v are one layer."""

    def __init__(
        self,
        qkv: PackedLayer,
        out: PackedLayer,
        up: PackedLayer,
        down: PackedLayer,
        shape: BlockShape,
    ) -> None:
        layers = [_fields(layer) for layer in (qkv, out, up, down)]
        self._kept = [kept for _, kept in layers]  # what the addresses stand for
        scale = shape.head_dim**-0.5 if shape.scale is None else shape.scale
        self._native = _cpu.DecoderBlock(
            layers[0][0],
            layers[1][0],
            layers[2][0],
            layers[3][0],
            (shape.num_heads, shape.num_kv_heads, shape.head_dim),
            _NUMBERS[shape.activation],
            shape.is_gated,
            shape.window or 0,
            scale,
            shape.softcap or 0.0,
        )

    def run(
        self,
        stream: Tensor,
        update: Tensor | None,
        *,
        attention_norm: BlockNorm,
        mlp_norm: BlockNorm,
        positions: Tensor,
        table: tuple[Tensor, Tensor] | None,
        pages: BlockPages,
    ) -> tuple[Tensor, Tensor] | None:
        """Runs T tokens and adds their keys and values to the pages.

        Args:
            stream: [T, hidden_size], fp32, contiguous as all tensors here.
            update: what is still to be added to it, or None.
            attention_norm: before attention.
            mlp_norm: before the MLP.
            positions: [T] int64.
            table: cos and sin [context_length, head_dim / 2], or None where positions are not
                rotary.
            pages: of the sequences that the tokens end.

        Returns:
            The stream and the new update; None, with nothing written, where a position or page does
            not exist.
        """
        new_stream, new_update = torch.empty_like(stream), torch.empty_like(stream)
        rows = stream, update, new_stream, new_update, positions, pages.slots
        is_done = self._native.run(
            attention_norm.fields,
            mlp_norm.fields,
            tuple(0 if x is None else x.data_ptr() for x in rows),
            _angles(table),
            cache_view(pages.keys, pages.key_scale).fields,
            cache_view(pages.values, pages.value_scale).fields,
            ELEMENTS[pages.keys.dtype],
            pages.places,
            (
                stream.shape[0],
                pages.lengths.shape[0],
                *pages.keys.shape[:2],
                pages.block_table.shape[1],
                pages.split_length or SPLIT_LENGTH,
            ),
        )
        return (new_stream, new_update) if is_done else None


Fields = tuple[int, int, int, int, int, int, int, int]


def _angles(table: tuple[Tensor, Tensor] | None) -> tuple[int, int, int, int]:
    if table is None:
        return 0, 0, 0, 0
    cos, sin = table
    return cos.data_ptr(), sin.data_ptr(), cos.shape[1], cos.shape[0]


def _fields(layer: PackedLayer) -> tuple[Fields, list[Tensor | None]]:
    """How the compiled code sees a layer, and the tensors that have to live as long."""
    weight, bias = layer
    bias = None if bias is None else fp32(bias)
    kept = [weight.values, None, None, bias]
    kind, group_size = 0, 0
    if isinstance(weight, PackedQuantizedWeight):
        kept[1:3] = weight.scales, weight.minimums
        kind, group_size = _FORMATS[weight.bits], weight.group_size
    values, scales, minimums, at_bias = (0 if x is None else x.data_ptr() for x in kept)
    sizes = weight.in_features, weight.out_features, group_size
    return (kind, values, scales, minimums, at_bias, *sizes), kept
