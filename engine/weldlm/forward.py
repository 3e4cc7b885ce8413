"""The tensors of one forward, built once from the plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from weldlm.block_table import BlockTable
from weldlm.cache import CacheStep, KVCache
from weldlm.packing import PackedBatch
from weldlm.scheduler import Work

__all__ = ["ROW_MULTIPLE", "Forward", "plan_forward"]

# rows of a matrix product are filled up to a multiple of it, where they shall be independent: MKL's
# fp32 product has other bits for 1, for 2 and 3 rows and, with more threads, for others up to 11;
# from 4 on, and for every multiple of 4, a row's bits are the same (docs/generation.md)
ROW_MULTIPLE = 4


@dataclass(frozen=True, slots=True)
class Forward:
    """What a model takes; sequences and rows behind the works' belong to nobody."""

    batch: PackedBatch
    cache: CacheStep
    row_starts: list[int]  # where each work's rows begin


def plan_forward(
    works: Sequence[Work], table: BlockTable, cache: KVCache, *, is_invariant: bool
) -> Forward:
    """Packs the works' tokens end to end."""
    counts = [work.count for work in works]
    starts = [work.branch.num_cached for work in works]
    ids: list[int] = []
    for work, start, count in zip(works, starts, counts, strict=True):
        if count == 1:
            ids.append(work.branch.ids[start])
        else:
            ids += work.branch.ids[start : start + count]
    multiple = ROW_MULTIPLE if is_invariant else 1
    num_more = -len(works) % multiple
    num_rows = len(ids) + num_more
    num_rows += -num_rows % multiple
    rows = np.zeros(num_rows, dtype=np.int64)
    rows[: len(ids)] = ids
    more = [1] * num_more  # sequences of one token without a past
    return Forward(
        batch=PackedBatch.from_lengths(
            torch.from_numpy(rows), counts + more, starts=starts + [0] * num_more
        ),
        cache=cache.step(
            table.rows([work.branch for work in works]),
            starts,
            counts,
            num_rows=num_rows,
            num_sequences=len(works) + num_more,
            rows_are_independent=is_invariant,
        ),
        row_starts=[0, *accumulate(counts[:-1])],
    )
