"""Hyperbolic functions that Triton's language lacks, for softcaps."""

import triton
import triton.language as tl

__all__ = ["tanh"]

TWO_LOG2_E = tl.constexpr(2.8853900817779268)


@triton.jit
def tanh(x):
    """Good to the last bits of fp32, also about 0 (Cephes, tanhf.c)."""
    square = x * x
    near = -5.70498872745e-3 * square + 2.06390887954e-2
    near = near * square - 5.37397155531e-2
    near = near * square + 1.33314422036e-1
    near = near * square - 3.33332819422e-1
    near = near * square * x + x
    far = 1.0 - 2.0 / (tl.exp2(x * TWO_LOG2_E) + 1.0)
    return tl.where(tl.abs(x) < 0.625, near, far)
