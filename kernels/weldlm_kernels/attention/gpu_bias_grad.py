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

    Row i is rotated by i, so that a diagonal becomes a column; a column then holds one diagonal of
    each turn of the rotation.
    """
    BLOCK_M: tl.constexpr = tile.shape[0]
    BLOCK_N: tl.constexpr = tile.shape[1]
    columns = tl.arange(0, BLOCK_N)
    places = tl.arange(0, BLOCK_M)[:, None] + columns[None, :]
    rotated = tl.gather(tile, places % BLOCK_N, 1)
    for TURN in tl.static_range(tl.cdiv(BLOCK_M, BLOCK_N) + 1):
        sums = tl.sum(tl.where(places // BLOCK_N == TURN, rotated, 0.0), axis=0)
        distance = lowest + BLOCK_M - 1 + columns - TURN * BLOCK_N
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
