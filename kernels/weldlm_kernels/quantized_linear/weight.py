"""Weights of a linear layer in 8 or 4 bits, with the scales that bring them back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from weldlm_kernels.dtypes import require_floating_point

__all__ = ["GROUP_SIZES", "QuantizedWeight", "dequantize", "quantize_weight"]

GROUP_SIZES = (32, 64, 128)
_MOST_OF_FP16 = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedWeight:
    """A weight [N, K]: scale * integer, or scale * integer + minimum where there are minimums.

    8 bits: integers of -127 to 127, one scale for each of the N output channels.
    4 bits: a scale for each group of `group_size` neighbors along K. Byte j of a group has integer
    j in its low half and integer j + group_size / 2 in its high half, from 0 to 15; where there are
    no minimums they are stored plus 8. `quantize_weight` makes scales and minimums of groups that
    are fp16 numbers, which two bytes hold.
    """

    values: Tensor  # [N, K] int8, or [N, K / 2] uint8
    scales: Tensor  # [N] or [N, K / group_size] fp32
    minimums: Tensor | None  # [N, K / group_size] fp32, or None
    bits: int  # 8 or 4
    group_size: int  # of 4 bits; 0 with 8

    @property
    def out_features(self) -> int:
        """N, the number of output channels."""
        return self.values.shape[0]

    @property
    def in_features(self) -> int:
        """K, the number of input channels."""
        return self.values.shape[1] * 8 // self.bits


def quantize_weight(
    weight: Tensor, *, bits: int, group_size: int = 128, has_minimums: bool = False
) -> QuantizedWeight:
    """Rounds a weight to the nearest integers of 8 or 4 bits.

    Args:
        weight: [N, K], floating point.
        bits: 8 (a scale for each output channel) or 4 (a scale for each group along K).
        group_size: 32, 64 or 128; K is a multiple of it. Of no effect with 8 bits.
        has_minimums: 4 bits cover the range from the lowest to the highest of a group, instead of
            as far below 0 as above. A weight that was on such a grid stays as it is.

    Raises:
        ValueError: a size does not fit, or a weight is not finite or too large.
        TypeError: `weight` has no floating-point dtype.
    """
    _check(weight, bits, group_size, has_minimums)
    weight = weight.detach().float()
    if bits == 8:
        scales = _scales(weight.abs().amax(dim=-1) / 127)
        values = (weight / scales[:, None]).round().to(torch.int8)
        return QuantizedWeight(values=values, scales=scales, minimums=None, bits=8, group_size=0)
    groups = weight.unflatten(-1, (-1, group_size))  # [N, K / group_size, group_size]
    minimums = groups.amin(dim=-1).half().float() if has_minimums else None
    if minimums is None:
        scales = _scales((groups.abs().amax(dim=-1) / 7).half().float())
        integers = (groups / scales[..., None]).round() + 8
    else:
        scales = _scales(((groups.amax(dim=-1) - minimums) / 15).half().float())
        integers = ((groups - minimums[..., None]) / scales[..., None]).round()
    return QuantizedWeight(
        values=_pack(integers.clamp(0, 15).to(torch.uint8)),
        scales=scales,
        minimums=minimums,
        bits=4,
        group_size=group_size,
    )


def dequantize(
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    group_size: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The weight [N, K] that the fields of a QuantizedWeight stand for."""
    if group_size == 0:
        return values.to(dtype) * scales[:, None].to(dtype)
    packed = values.unflatten(-1, (-1, group_size // 2))
    integers = torch.cat([packed & 15, packed >> 4], dim=-1).to(dtype)
    steps = scales[..., None].to(dtype)
    if minimums is None:
        return ((integers - 8) * steps).flatten(1)
    return (integers * steps + minimums[..., None].to(dtype)).flatten(1)


def _scales(steps: Tensor) -> Tensor:
    """The distance of neighboring integers; 1 where all weights are 0."""
    return torch.where(steps > 0, steps, 1.0)


def _pack(integers: Tensor) -> Tensor:
    """[N, groups, group_size] of 0 to 15 to [N, groups * group_size / 2] bytes."""
    low, high = integers.chunk(2, dim=-1)
    return (low | (high << 4)).flatten(1)


def _check(weight: Tensor, bits: int, group_size: int, has_minimums: bool) -> None:
    require_floating_point("weight", weight)
    if weight.dim() != 2 or 0 in weight.shape:
        raise ValueError(f"weight {tuple(weight.shape)}; expected [N, K], both above 0")
    if bits not in (4, 8):
        raise ValueError(f"bits is {bits}; expected 8 or 4")
    if bits == 8 and has_minimums:
        raise ValueError("has_minimums is True with 8 bits; expected False, or bits=4")
    if bits == 4 and (group_size not in GROUP_SIZES or weight.shape[1] % group_size):
        raise ValueError(
            f"group_size is {group_size} for weight {tuple(weight.shape)}; expected one of "
            f"{GROUP_SIZES} that divides K"
        )
    if not bool(weight.isfinite().all()):
        raise ValueError("weight holds NaN or infinity; expected finite numbers")
    if bits == 4 and (most := weight.abs().max().item()) > _MOST_OF_FP16:
        raise ValueError(
            f"weight reaches {most:.6g}; expected at most {_MOST_OF_FP16:,.0f}, since scales are "
            "in fp16; take bits=8"
        )
