"""fp32 weights in the order in which the CPU kernels read them (csrc/cpu/packed_weight.hpp)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from weldlm_kernels.panels import by_channel, by_panel, padded

__all__ = ["PackedWeight", "pack_weight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeight:
    """A weight [N, K] that `linear` takes on a CPU."""

    values: Tensor  # [panels, K, 16] fp32
    out_features: int  # N
    in_features: int  # K

    def unpack(self) -> Tensor:
        """The weight that was packed, [N, K]."""
        return by_channel(self.values)[: self.out_features].contiguous()


def pack_weight(weight: Tensor) -> PackedWeight:
    """Packs a weight for `linear` on a CPU.

    Args:
        weight: [N, K] fp32.

    Raises:
        ValueError: the weight is no matrix, is empty, or is not on a CPU.
        TypeError: the weight is not fp32.
    """
    if weight.dim() != 2 or 0 in weight.shape or weight.device.type != "cpu":
        raise ValueError(
            f"weight {tuple(weight.shape)} on {weight.device}; expected [N, K], both above 0, on "
            "the CPU"
        )
    if weight.dtype != torch.float32:
        raise TypeError(f"weight is {weight.dtype}; expected torch.float32: .float() it")
    out_features, in_features = weight.shape
    values = by_panel(padded(weight.detach()))
    return PackedWeight(values=values, out_features=out_features, in_features=in_features)
