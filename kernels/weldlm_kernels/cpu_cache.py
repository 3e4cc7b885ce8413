"""How the compiled CPU kernels are told where keys or values lie in pages."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ELEMENTS", "CacheView", "cache_view"]

# csrc/cpu/paged_cache.hpp, CacheElement
ELEMENTS = {torch.float32: 0, torch.int8: 1, torch.float8_e4m3fn: 2}


@dataclass(frozen=True, slots=True)
class CacheView:
    """Address and strides of a cache and its scales; alive as long as the tensors."""

    cache: Tensor
    scale: Tensor | None

    @property
    def fields(self) -> tuple[int, int, int, int, int, int, int, int, bool]:
        address, (block, token, head, _) = self.cache.data_ptr(), self.cache.stride()
        if self.scale is None:
            return address, block, token, head, 0, 0, 0, 0, False
        scale_address, (scale_block, scale_token, scale_head) = (
            self.scale.data_ptr(),
            self.scale.stride(),
        )
        is_fp16 = self.scale.dtype == torch.float16
        return (
            *(address, block, token, head),
            *(scale_address, scale_block, scale_token, scale_head),
            is_fp16,
        )


def cache_view(cache: Tensor, scale: Tensor | None) -> CacheView:
    """Copies a cache whose heads are not contiguous."""
    return CacheView(cache if cache.stride(3) == 1 else cache.contiguous(), scale)
