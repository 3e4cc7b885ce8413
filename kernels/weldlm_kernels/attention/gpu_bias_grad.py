"""The gradient of a relative bias in a tile of scores, summed by the distance of key and query.

Every block of rows has a table of its own in memory, so nothing is added atomically. Each distance
within reach has an entry there; what is farther is summed by row in registers and added at the end.
"""

import triton
import triton.language as tl

__all__ = ["collect_bias", "own_table", "store_far"]


@triton.jit
def own_table(modifiers, q_start, sequence, first_row, head, num_heads, BLOCK_M: tl.constexpr):
    """Points at the table of a block of rows: no other block of the batch has its slot."""
    pointer = None
    if modifiers.grad_table_ptr is not None:
        slot = (q_start // BLOCK_M + sequence + first_row // BLOCK_M) * num_heads + head
        pointer = modifiers.grad_table_ptr + slot * (2 * modifiers.reach + 1)
    return pointer


@triton.jit
def collect_bias(
    before,  # [BLOCK_M], sums over the keys that lie `reach` or more before a row
    behind,  # [BLOCK_M], and behind it
    grad_scores,  # [BLOCK_M, BLOCK_N]
    distance,  # [BLOCK_M, BLOCK_N]
    lowest,  # of the distances
    highest,
    grad_bias_ptr,  # [2 * reach + 1]
    reach,
):
    if (highest > -reach) & (lowest < reach):
        before += tl.sum(tl.where(distance <= -reach, grad_scores, 0.0), axis=1)
        behind += tl.sum(tl.where(distance >= reach, grad_scores, 0.0), axis=1)
        add_diagonals(grad_bias_ptr + reach, grad_scores, lowest, reach)
    else:
        total = tl.sum(grad_scores, axis=1)
        before += tl.where(lowest > 0, 0.0, total)
        behind += tl.where(lowest > 0, total, 0.0)
    return before, behind


@triton.jit
def add_diagonals(base_ptr, tile, lowest, reach):
    """Adds the sum of each diagonal of a tile whose distance is within reach.

    Column j is rotated by j, so that a diagonal becomes a row; a row then holds one diagonal of
    each turn of the rotation. Flat, because a gather along a dimension that lies within a warp is
    unrolled into shuffles, one from every register to every other.
    """
    BLOCK_M: tl.constexpr = tile.shape[0]
    BLOCK_N: tl.constexpr = tile.shape[1]
    SIZE: tl.constexpr = BLOCK_M * BLOCK_N
    TURNS: tl.constexpr = (BLOCK_N + BLOCK_M - 1) // BLOCK_M + 1
    places = tl.arange(0, SIZE) // BLOCK_N + tl.arange(0, SIZE) % BLOCK_N
    sources = places % BLOCK_M * BLOCK_N + tl.arange(0, SIZE) % BLOCK_N
    rotated = tl.gather(tl.reshape(tile, [SIZE]), sources, 0)
    rows = tl.arange(0, BLOCK_M)
    for TURN in tl.static_range(TURNS):
        of_turn = tl.where(places // BLOCK_M == TURN, rotated, 0.0)
        sums = tl.sum(tl.reshape(of_turn, [BLOCK_M, BLOCK_N]), axis=1)
        distance = lowest + BLOCK_M - 1 + TURN * BLOCK_M - rows
        is_near = tl.abs(distance) < reach
        old = tl.load(base_ptr + distance, mask=is_near, other=0.0)
        tl.store(base_ptr + distance, old + sums, mask=is_near)
        # another thread reads the entry next time
        tl.debug_barrier()


@triton.jit
def store_far(grad_bias_ptr, before, behind, reach):
    """Adds what lies out of reach to the ends of the table."""
    for_end = grad_bias_ptr + 2 * reach
    tl.store(grad_bias_ptr, tl.load(grad_bias_ptr) + tl.sum(before))
    tl.store(for_end, tl.load(for_end) + tl.sum(behind))
    tl.debug_barrier()
