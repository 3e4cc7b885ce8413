"""How products of queries and keys become scores in the Triton kernels of attention, and back.

Each option of a call is a field of `Modifiers`; a field that is None is compiled away.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

__all__ = ["LOG2_E", "Modifiers", "capped_grad", "load_lse", "to_scores"]

# exponentials are taken to base 2, which is what the hardware computes
LOG2_E = tl.constexpr(1.4426950408889634)


class Modifiers(NamedTuple):
    """What a call does to scores and probabilities beyond scale and causal mask."""

    window: Any = None  # keys this far away or farther are hidden
    softcap: Any = None
    slopes_ptr: Any = None  # [H], of ALiBi
    table_ptr: Any = None  # [H, 2 * reach + 1] fp32, relative biases of distances -reach to reach
    reach: Any = None  # farther distances have the bias at the end of the table
    grad_table_ptr: Any = None  # [blocks of rows, H, 2 * reach + 1] fp32 zeros; backward only
    seed_ptr: Any = None  # one int64, of dropout
    threshold: Any = None  # a draw below it is dropped
    keep_scale: Any = None  # 1 / (1 - dropout_p)


@triton.jit
def to_scores(
    products,
    distance,  # of each key and query; the last of both have distance 0
    lowest,  # of the distances of the tile
    highest,
    head,
    scale,
    modifiers,
):
    """Scores, and their unit as a multiple of log2."""
    softcap, slopes_ptr, table_ptr = modifiers.softcap, modifiers.slopes_ptr, modifiers.table_ptr
    scores, unit = products, scale * LOG2_E
    if softcap is not None or slopes_ptr is not None or table_ptr is not None:
        unit = 1.0
        # a softcap needs natural units
        bias_unit = LOG2_E if softcap is None else 1.0
        scores = products * (scale * bias_unit)
        if slopes_ptr is not None:
            slope = tl.load(slopes_ptr + head).to(tl.float32) * bias_unit
            scores -= slope * tl.abs(distance).to(tl.float32)
        if table_ptr is not None:
            reach = modifiers.reach
            middle_ptr = table_ptr + head * (2 * reach + 1) + reach
            scores = add_bias(scores, distance, lowest, highest, middle_ptr, reach, bias_unit)
        if softcap is not None:
            scores = tanh(scores * (1.0 / softcap)) * (softcap * LOG2_E)
    return scores, unit


@triton.jit
def add_bias(scores, distance, lowest, highest, middle_ptr, reach, unit):
    """Adds relative biases; out of reach a tile has a single one."""
    if (highest > -reach) & (lowest < reach):
        distance = tl.minimum(tl.maximum(distance, -reach), reach)
        scores += tl.load(middle_ptr + distance) * unit
    else:
        scores += tl.load(middle_ptr + tl.where(lowest > 0, reach, -reach)) * unit
    return scores


@triton.jit
def tanh(x):
    """Good to the last bits of fp32, also about 0 (Cephes, tanhf.c)."""
    square = x * x
    near = -5.70498872745e-3 * square + 2.06390887954e-2
    near = near * square - 5.37397155531e-2
    near = near * square + 1.33314422036e-1
    near = near * square - 3.33332819422e-1
    near = near * square * x + x
    far = 1.0 - 2.0 / (tl.exp2(x * (2.0 * LOG2_E)) + 1.0)
    return tl.where(tl.abs(x) < 0.625, near, far)


@triton.jit
def load_lse(pointers, is_row, modifiers):
    """The log-sum-exp of rows, in units of log2."""
    if modifiers.slopes_ptr is not None or modifiers.table_ptr is not None:
        # the scores of such a row are biases, whose exponentials may overflow
        lse = tl.load(pointers, mask=is_row, other=float("inf"))
    else:
        lse = tl.load(pointers, mask=is_row, other=0.0)
    return lse * LOG2_E


@triton.jit
def capped_grad(grad_scores, scores, modifiers):
    """The gradient of scores before the softcap."""
    if modifiers.softcap is not None:
        share = scores * (1.0 / (modifiers.softcap * LOG2_E))
        grad_scores *= 1.0 - share * share
    return grad_scores
