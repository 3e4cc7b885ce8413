"""How Triton kernels read a row of logits that is longer than what a program holds."""

from dataclasses import dataclass

import triton
import triton.language as tl

__all__ = ["LOWEST", "RowBlock", "add_exponentials", "load_logits", "row_block", "tanh"]

# finite, so that a block of -inf does not give inf - inf
LOWEST = tl.constexpr(-3.4028234663852886e38)  # of fp32


@dataclass(frozen=True, slots=True)
class RowBlock:
    """What a program holds of a row at a time."""

    size: int  # logits, a power of two
    num_warps: int


def row_block(vocab_size: int, *, most: int, logits_per_warp: int) -> RowBlock:
    """Returns the block of at most `most` logits in which to take a row of `vocab_size`."""
    size = min(most, max(1024, triton.next_power_of_2(vocab_size)))
    return RowBlock(size=size, num_warps=max(4, size // logits_per_warp))


@triton.jit
def load_logits(row_ptr, columns, vocab_size, row_stride, softcap):
    """Loads logits (softcap * tanh(logits / softcap) with a softcap) as fp32, -inf past the end."""
    # a row is padded: masked at its stride, which is a multiple of 64, it is loaded in wide pieces
    logits = tl.load(row_ptr + columns, mask=columns < row_stride, other=0.0).to(tl.float32)
    if softcap is not None:
        logits = softcap * tanh(logits / softcap)
    return tl.where(columns < vocab_size, logits, float("-inf"))


@triton.jit
def add_exponentials(maximum, total, logits):
    """Adds sum(exp(logits - maximum)) to total, rescaled to the maximum with these logits.

    Start with LOWEST and 0.
    """
    larger = tl.maximum(maximum, tl.max(logits, axis=0))
    return larger, total * tl.exp(maximum - larger) + tl.sum(tl.exp(logits - larger), axis=0)


@triton.jit
def tanh(x):
    # near 0 by its series, where 1 - 2 / (e^2x + 1) would cancel
    s = x * x
    series = x + x * s * (-1 / 3 + s * (2 / 15 + s * (-17 / 315 + s * (62 / 2835))))
    return tl.where(s < 0.0625, series, 1 - 2 / (tl.exp(2 * x) + 1))
