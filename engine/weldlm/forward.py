"""The tensors of one forward, built once from the plan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from weldlm.block_table import BlockTable
from weldlm.cache import CacheStep, KVCache
from weldlm.config import ModelConfig
from weldlm.packing import PackedBatch
from weldlm.scheduler import Work

__all__ = ["Forward", "plan_forward", "row_multiple"]

# MKL's products: a row has other bits among 1, 2 or 3 rows and, with more threads, some numbers up
# to 11, but the same among every multiple of 4 (docs/generation.md)
_ROWS_OF_PRODUCTS = 4
# PyTorch takes so many numbers at a time through exp and tanh, and what is left over through other
# versions of them
_NUMBERS_OF_VECTORS = 32


@dataclass(frozen=True, slots=True)
class Forward:
    """What a model takes; sequences and rows behind the works' belong to nobody."""

    batch: PackedBatch
    cache: CacheStep
    row_starts: list[int]  # where each work's rows begin


def row_multiple(config: ModelConfig, is_packed: bool) -> int:
    """What rows are filled up to a multiple of, so that none depends on how many there are.

    Args:
        config: of the model.
        is_packed: whether products are those of `PackedLinears`, which need it not.
    """
    multiple = 1 if is_packed else _ROWS_OF_PRODUCTS
    for width in (config.hidden_size, config.intermediate_size):
        vectors = _NUMBERS_OF_VECTORS // math.gcd(width, _NUMBERS_OF_VECTORS)
        multiple = math.lcm(multiple, vectors)
    return multiple


def plan_forward(
    works: Sequence[Work],
    table: BlockTable,
    cache: KVCache,
    *,
    row_multiple: int,
    rows_are_independent: bool,
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
    num_more = -len(works) % row_multiple
    num_rows = len(ids) + num_more
    num_rows += -num_rows % row_multiple
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
            rows_are_independent=rows_are_independent,
        ),
        row_starts=[0, *accumulate(counts[:-1])],
    )
