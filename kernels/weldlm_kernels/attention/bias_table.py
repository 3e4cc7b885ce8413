"""A relative bias as a table by distance, which kernels look up, and its way back to buckets."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from weldlm_kernels.attention.options import Options
from weldlm_kernels.attention.reference import RelativeBias

__all__ = ["BiasTable", "build_bias_table"]


@dataclass(frozen=True, slots=True)
class BiasTable:
    """The biases of distances -reach to reach; beyond, they do not change."""

    values: Tensor  # [H, 2 * reach + 1] fp32, contiguous
    buckets: Tensor  # [2 * reach + 1]
    num_buckets: int
    dtype: torch.dtype  # of the bias

    @property
    def reach(self) -> int:
        return self.buckets.shape[0] // 2

    def new_gradients(self, num_slots: int) -> Tensor:
        """Zeros for a sum of gradients by distance a slot and head."""
        return self.values.new_zeros(num_slots, *self.values.shape)

    def gradient(self, gradients: Tensor) -> Tensor:
        """[num_slots, H, 2 * reach + 1] -> [num_buckets, H], without atomics."""
        by_distance = gradients.sum(0)
        buckets = torch.arange(self.num_buckets, device=self.buckets.device).view(-1, 1, 1)
        return torch.where(self.buckets == buckets, by_distance, 0.0).sum(-1).to(self.dtype)


def build_bias_table(options: Options) -> BiasTable | None:
    bias = options.relative_bias
    if bias is None:
        return None
    buckets = _buckets(bias.shape[0], options.max_distance, options.is_bidirectional, bias.device)
    values = bias[buckets].T.to(torch.float32, memory_format=torch.contiguous_format)
    return BiasTable(values.contiguous(), buckets, bias.shape[0], bias.dtype)


@cache
def _buckets(
    num_buckets: int, max_distance: int, is_bidirectional: bool, device: torch.device
) -> Tensor:
    """[2 * reach + 1], the bucket of each distance; a dozen small kernels, so launched once."""
    # buckets for one distance each may reach farther than max_distance
    reach = max(max_distance, num_buckets)
    table = torch.empty(num_buckets, 0, device=device)
    distance = torch.arange(-reach, reach + 1, device=device)
    return RelativeBias(table, max_distance, is_bidirectional).buckets(distance)
