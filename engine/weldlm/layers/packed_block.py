"""A block whose linear layers are packed, as one call where it reads a cache."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weldlm.layers.context import LayerContext
from weldlm.layers.norm import LayerNorm, RMSNorm
from weldlm.layers.packed import PackedLinear
from weldlm_kernels.backend import choose
from weldlm_kernels.decoder_block import BlockNorm, BlockPages, BlockShape, DecoderBlock

__all__ = ["PackedBlock"]

_CACHE_DTYPES = (torch.float32, torch.int8)


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """The compiled block of four layers, as long as they stay in their places."""

    layers: tuple[nn.Module, ...]  # qkv, out, up, down
    compiled: DecoderBlock | None  # None where they are not packed

    @classmethod
    def of(cls, layers: tuple[nn.Module, ...], shape: BlockShape) -> "PackedBlock":
        packed = [layer for layer in layers if isinstance(layer, PackedLinear)]
        if len(packed) < len(layers):
            return cls(layers, None)
        qkv, out, up, down = ((layer.weight, layer.bias) for layer in packed)
        return cls(layers, DecoderBlock(qkv, out, up, down, shape))

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copies of a model make it anew."""
        return type(None), ()

    def stands_for(self, layers: tuple[nn.Module, ...]) -> bool:
        return all(mine is theirs for mine, theirs in zip(self.layers, layers, strict=True))

    def run(
        self,
        stream: Tensor,
        update: Tensor | None,
        context: LayerContext,
        *,
        layer: int,
        is_windowed: bool,
        norms: tuple[nn.Module | None, nn.Module],
    ) -> tuple[Tensor, Tensor] | None:
        """Returns what the block returns, or None where it has to go the long way."""
        if self.compiled is None or context.cache is None or context.relative_bias is not None:
            return None
        if torch.is_grad_enabled() or choose("paged_attention", stream) != "cpu":
            return None
        attention_norm, mlp_norm = (_norm(norm) for norm in norms)
        pages, batch = context.cache.pages(layer), context.batch
        if attention_norm is None or mlp_norm is None or pages.keys.dtype not in _CACHE_DTYPES:
            return None
        table = context.table
        if is_windowed and context.local_table is not None:
            table = context.local_table
        return self.compiled.run(
            stream.contiguous(),
            None if update is None else update.contiguous(),
            attention_norm=attention_norm,
            mlp_norm=mlp_norm,
            positions=batch.positions.contiguous(),
            table=None if table is None else (table.cos, table.sin),
            pages=BlockPages(
                keys=pages.keys,
                values=pages.values,
                key_scale=pages.key_scale,
                value_scale=pages.value_scale,
                slots=pages.slots,
                block_table=pages.block_table,
                lengths=pages.lengths,
                q_offsets=batch.offsets.contiguous(),
                split_length=pages.split_length,
            ),
        )


def _norm(norm: nn.Module | None) -> BlockNorm | None:
    """None where the compiled block has no such norm."""
    if isinstance(norm, LayerNorm) and norm.weight.dtype == torch.float32:
        return BlockNorm(norm.weight, norm.bias, norm.eps, False)
    if isinstance(norm, RMSNorm) and norm.weight.dtype == torch.float32:
        return BlockNorm(norm.weight, None, norm.eps, True) if norm.weight_offset == 0 else None
    return None
