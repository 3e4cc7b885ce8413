"""Quantized weights in the order in which the CPU kernels read them.

csrc/cpu/packed_weight.hpp describes the layouts. Packing moves integers and loses nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from weldlm_kernels.panels import by_channel, by_panel, padded
from weldlm_kernels.quantized_linear.weight import QuantizedWeight

__all__ = ["PackedQuantizedWeight", "pack_quantized_weight"]

_BLOCK = 32  # neighbors along K whose halves share bytes
_QUAD = 4  # neighbors along K that are multiplied at once


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedQuantizedWeight:
    """A QuantizedWeight [N, K] that `quantized_linear` takes on a CPU, with integer products."""

    values: Tensor  # [panels, K / 4, 16, 4] uint8, or [panels, K / 32, 4, 16, 4] with 4 bits
    scales: Tensor  # [panels * 16] fp32, or [panels, K / group_size, 16] fp16 with 4 bits
    minimums: Tensor | None  # [panels, K / group_size, 16] fp16, or None
    bits: int  # 8 or 4
    group_size: int  # of 4 bits; 0 with 8
    out_features: int  # N
    in_features: int  # K

    def unpack(self) -> QuantizedWeight:
        """The weight that was packed."""
        num_channels, depth = self.out_features, self.in_features
        if self.bits == 8:
            bytes_by_channel = by_channel(self.values).flatten(1)[:num_channels, :depth]
            values = (bytes_by_channel.short() - 128).to(torch.int8)
            scales, minimums = self.scales[:num_channels], None
        else:
            values = _from_blocks(_block_channels(self.values), self.group_size)[:num_channels]
            scales = by_channel(self.scales)[:num_channels].float()
            minimums = self.minimums
            if minimums is not None:
                minimums = by_channel(minimums)[:num_channels].float()
        return QuantizedWeight(
            values=values.contiguous(),
            scales=scales.contiguous(),
            minimums=None if minimums is None else minimums.contiguous(),
            bits=self.bits,
            group_size=self.group_size,
        )


def pack_quantized_weight(weight: QuantizedWeight) -> PackedQuantizedWeight:
    """Packs a weight for `quantized_linear` on a CPU.

    Raises:
        ValueError: the weight is not on a CPU, or has 4 bits and scales or minimums that are
            no fp16 numbers (those from `quantize_weight` are).
    """
    _check(weight)
    if weight.bits == 8:
        integers = weight.values.short() + 128
        values = by_panel(padded(integers, _QUAD, fill=128).to(torch.uint8).unflatten(1, (-1, 4)))
        scales, minimums = padded(weight.scales[:, None]).flatten(), None
    else:
        values = _to_blocks(padded(weight.values), weight.group_size)
        scales = by_panel(padded(weight.scales)).half()
        minimums = weight.minimums
        if minimums is not None:
            minimums = by_panel(padded(minimums)).half()
    return PackedQuantizedWeight(
        values=values,
        scales=scales,
        minimums=minimums,
        bits=weight.bits,
        group_size=weight.group_size,
        out_features=weight.out_features,
        in_features=weight.in_features,
    )


def _to_blocks(values: Tensor, group_size: int) -> Tensor:
    """[N, K / 2] bytes that hold the halves of a group to [panels, K / 32, 4, 16, 4] of a block."""
    groups = values.unflatten(1, (-1, group_size // 2))
    integers = torch.cat([groups & 15, groups >> 4], dim=2)  # [N, groups, group_size]
    low, high = integers.reshape(values.shape[0], -1, _BLOCK).chunk(2, dim=2)
    return _block_panels((low | (high << 4)).unflatten(2, (4, _QUAD)))


def _from_blocks(blocks: Tensor, group_size: int) -> Tensor:
    """The reverse, from [N, K / 32, 4, 4]."""
    packed = blocks.flatten(2)
    integers = torch.cat([packed & 15, packed >> 4], dim=2)  # [N, blocks, 32]
    low, high = integers.reshape(blocks.shape[0], -1, group_size).chunk(2, dim=2)
    return (low | (high << 4)).flatten(1)


def _block_panels(rows: Tensor) -> Tensor:
    """[N, blocks, 4, 4] to [panels, blocks, 4, 16, 4]."""
    panels: Tensor = by_panel(rows.flatten(1, 2)).unflatten(1, (-1, 4))
    return panels


def _block_channels(panels: Tensor) -> Tensor:
    """[panels, blocks, 4, 16, 4] to [N, blocks, 4, 4]."""
    rows: Tensor = by_channel(panels.flatten(1, 2)).unflatten(1, (-1, 4))
    return rows


def _check(weight: QuantizedWeight) -> None:
    if weight.values.device.type != "cpu":
        raise ValueError(f"the weight is on {weight.values.device}; expected the CPU: .cpu() it")
    if weight.bits == 8:
        return
    for name, numbers in (("scales", weight.scales), ("minimums", weight.minimums)):
        if numbers is not None and not torch.equal(numbers.half().float(), numbers):
            raise ValueError(
                f"the {name} have more digits than fp16; expected those of quantize_weight"
            )
