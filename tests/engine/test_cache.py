"""KVCache: every sequence gets back exactly what was written for it, wherever its blocks lie."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.cache import KVCache
from weldlm.layers import Pages
from weldlm.packing import PackedBatch
from weldlm_kernels.paged_attention.reference import read_pages

CONFIG = tiny_config("llama-tiny")  # 2 layers, 2 key/value heads of width 8


def new_cache(num_blocks: int, dtype: torch.dtype = torch.float32) -> KVCache:
    return KVCache(CONFIG, num_blocks, 4, dtype=dtype, device="cpu")


def table(*blocks: list[int]) -> np.ndarray:
    """Rows of block numbers, filled up with zeros."""
    width = max(map(len, blocks))
    return np.array([[*row, *[0] * (width - len(row))] for row in blocks], dtype=np.int32)


def rows(*values: float) -> Tensor:
    """[T, 2, 8], every channel of a row the same value."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1).expand(-1, 2, 8)


def write(
    cache: KVCache,
    blocks: np.ndarray,
    starts: list[int],
    counts: list[int],
    *values: float,
    layer: int = 0,
) -> list[list[float]]:
    """Writes `values` as keys and their negatives as values; returns each sequence's keys."""
    k = rows(*values)
    pages = cache.step(blocks, starts, counts).append(layer, k, -k)
    assert read(pages, pages.values) == [[-value for value in keys] for keys in read(pages)]
    return read(pages)


def read(pages: Pages, values: Tensor | None = None) -> list[list[float]]:
    return [
        read_pages(
            pages.keys if values is None else values,
            pages.key_scale if values is None else pages.value_scale,
            pages.block_table[index],
            length,
            torch.float32,
        )[:, 1, 7].tolist()
        for index, length in enumerate(pages.lengths.tolist())
    ]


def test_sequences_come_back_with_their_past() -> None:
    cache, blocks = new_cache(6), table([4, 1], [0], [5, 2])
    write(cache, blocks, [0, 0, 0], [2, 1, 3], 1, 2, 10, 20, 21, 22)

    found = write(cache, blocks, [2, 1, 3], [3, 2, 2], 3, 4, 5, 11, 12, 23, 24)

    assert found == [[1, 2, 3, 4, 5], [10, 11, 12], [20, 21, 22, 23, 24]]


def test_layers_are_kept_apart() -> None:
    cache, blocks = new_cache(2), table([0], [1])
    write(cache, blocks, [0, 0], [1, 1], 1, 2, layer=0)
    write(cache, blocks, [0, 0], [1, 1], 4, 5, layer=1)

    assert write(cache, blocks, [1, 1], [1, 1], 7, 8, layer=0) == [[1, 7], [2, 8]]


def test_a_shared_block_is_read_by_both() -> None:
    cache = new_cache(3)
    write(cache, table([2]), [0], [4], 1, 2, 3, 4)

    found = write(cache, table([2, 0], [2, 1]), [4, 4], [1, 1], 5, 6)

    assert found == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]]


def test_copied_blocks_are_apart_from_their_sources() -> None:
    cache = new_cache(4)
    write(cache, table([0], [1]), [0, 0], [2, 2], 1, 2, 3, 4)

    cache.copy([(0, 1), (1, 2)])
    found = write(cache, table([0], [1], [2]), [2, 2, 2], [1, 1, 1], 5, 6, 7)

    assert found == [[1, 2, 5], [1, 2, 6], [3, 4, 7]]


def test_rows_and_sequences_of_nobody_are_not_written() -> None:
    cache, blocks = new_cache(2), table([0])
    write(cache, table([0], [1]), [0, 0], [4, 4], *[9] * 8)

    step = cache.step(blocks, [0], [2], num_rows=5, num_sequences=3)
    pages = step.append(0, rows(1, 2, 3, 4, 5), rows(1, 2, 3, 4, 5))

    assert pages.lengths.tolist() == [2, 0, 0]
    assert pages.keys[:, :, 0, 0].tolist() == [[1, 2, 9, 9], [9, 9, 9, 9]]


def test_int8_keeps_a_scale_for_each_head_of_a_token() -> None:
    cache = new_cache(2, torch.int8)

    (found,) = write(cache, table([1]), [0], [3], 0.5, -3.0, 100.0)

    assert found == pytest.approx([0.5, -3.0, 100.0], rel=1e-6)
    assert cache.num_bytes == 2 * 2 * (2 * 4) * 2 * (8 + 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 16, torch.float32), ValueError, "num_blocks 0 and block_size 16; expected at least 1"),
        ((3, 0, torch.float32), ValueError, "num_blocks 3 and block_size 0; expected at least 1"),
        ((3, 16, torch.int64), TypeError, "the cache's dtype is torch.int64; expected float32"),
    ],
    ids=["no-blocks", "empty-blocks", "dtype"],
)
def test_a_cache_of_nothing_is_refused(
    arguments: tuple[int, int, torch.dtype], error: type[Exception], message: str
) -> None:
    num_blocks, block_size, dtype = arguments

    with pytest.raises(error, match=message):
        KVCache(CONFIG, num_blocks, block_size, dtype=dtype, device="cpu")


def test_num_bytes_counts_keys_and_values_of_all_layers() -> None:
    layers, heads, width, fp32 = 2, 2, 8, 4

    assert new_cache(3).num_bytes == 2 * layers * (3 * 4) * heads * width * fp32


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
@pytest.mark.parametrize("chunk", [1, 4, 13], ids=["one", "four", "whole"])
def test_logits_in_chunks_equal_logits_in_one_forward(name: str, chunk: int) -> None:
    model, ids = tiny_model(name), torch.arange(13) * 7 % 97
    cache = KVCache(model.config, 4, 4, dtype=torch.float32, device="cpu")
    blocks = table([2, 0, 3, 1])

    with torch.inference_mode():
        parts = [
            model.logits(
                PackedBatch.from_lengths(part, [len(part)], starts=[start * chunk]),
                cache.step(blocks, [start * chunk], [len(part)]),
            )
            for start, part in enumerate(ids.split(chunk))
        ]
        expected = model.logits(PackedBatch.from_sequences([ids]))

    torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=1e-5)
