"""KVCache: every sequence gets back exactly what was appended to it, wherever it lies."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.cache import KVCache
from weldlm.packing import PackedBatch

CONFIG = tiny_config("llama-tiny")  # 2 layers, 2 key/value heads of width 8


def new_cache(num_sequences: int, capacity: int = 16) -> KVCache:
    return KVCache(CONFIG, num_sequences, capacity, dtype=torch.float32, device="cpu")


def batch_of(*lengths: int) -> PackedBatch:
    return PackedBatch.from_lengths(torch.zeros(sum(lengths), dtype=torch.int64), lengths)


def rows(*values: float) -> Tensor:
    """[T, 2, 8], every channel of a row the same value."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1).expand(-1, 2, 8)


def append(
    cache: KVCache, lengths: Sequence[int], *values: float, layer: int = 0
) -> tuple[list[float], list[float], list[int], int]:
    """Appends `values` as keys and their negatives as values; returns what a layer would see."""
    batch = batch_of(*lengths)
    k, v, k_offsets, k_max_length = cache.append(layer, rows(*values), -rows(*values), batch)
    seen = k[:, 1, 7].tolist(), v[:, 0, 0].tolist(), k_offsets.tolist(), k_max_length
    cache.advance(batch)
    return seen


def test_sequences_come_back_end_to_end_with_their_past() -> None:
    cache = new_cache(3)
    append(cache, [2, 1, 3], 1, 2, 10, 20, 21, 22)

    k, v, k_offsets, k_max_length = append(cache, [1, 3, 1], 3, 11, 12, 13, 23)

    assert k == [1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert v == [-value for value in k]
    assert (k_offsets, k_max_length) == ([0, 3, 7, 11], 4)


def test_one_sequence_comes_back_with_its_past() -> None:
    cache = new_cache(1)
    append(cache, [3], 1, 2, 3)

    k, v, k_offsets, k_max_length = append(cache, [2], 4, 5)

    assert k == [1, 2, 3, 4, 5]
    assert v == [-1, -2, -3, -4, -5]
    assert (k_offsets, k_max_length) == ([0, 5], 5)


def test_one_sequence_is_read_without_a_copy() -> None:
    cache, batch = new_cache(1), batch_of(2)
    first, _, _, _ = cache.append(0, rows(1, 2), rows(1, 2), batch)

    again, _, _, _ = cache.append(0, rows(3, 4), rows(3, 4), batch)

    assert first.data_ptr() == again.data_ptr()
    assert first[:, 0, 0].tolist() == [3, 4]


def test_layers_are_kept_apart() -> None:
    cache, batch = new_cache(2), batch_of(1, 2)
    cache.append(0, rows(1, 2, 3), rows(1, 2, 3), batch)
    cache.append(1, rows(4, 5, 6), rows(4, 5, 6), batch)
    cache.advance(batch)

    k, _, _, _ = cache.append(0, rows(7, 8), rows(7, 8), batch_of(1, 1))

    assert k[:, 0, 0].tolist() == [1, 7, 2, 3, 8]


def test_lengths_count_what_was_advanced_over() -> None:
    cache = new_cache(2)
    append(cache, [3, 1], 1, 2, 3, 4)
    cache.append(0, rows(5, 6), rows(5, 6), batch_of(1, 1))

    assert cache.lengths == [3, 1]


def test_an_empty_chunk_leaves_its_sequence_as_it_is() -> None:
    cache = new_cache(2)
    append(cache, [2, 1], 1, 2, 10)

    k, _, k_offsets, _ = append(cache, [0, 1], 11)

    assert (k, k_offsets) == ([1, 2, 10, 11], [0, 2, 4])


def test_rows_behind_the_last_sequence_are_not_written() -> None:
    cache = new_cache(2)
    batch = PackedBatch.from_lengths(torch.zeros(4, dtype=torch.int64), [1, 1])

    k, _, _, _ = cache.append(0, rows(1, 2, 8, 9), rows(1, 2, 8, 9), batch)

    assert k[:, 0, 0].tolist() == [1, 2]


def test_keep_goes_on_with_the_chosen_sequences_in_that_order() -> None:
    cache = new_cache(3)
    append(cache, [2, 1, 3], 1, 2, 10, 20, 21, 22)

    cache.keep([2, 0])
    k, _, k_offsets, _ = append(cache, [1, 1], 23, 3)

    assert (k, k_offsets) == ([20, 21, 22, 23, 1, 2, 3], [0, 4, 7])
    assert cache.lengths == [4, 3]


def test_a_sequence_that_enters_later_does_not_see_who_was_there_before() -> None:
    cache = new_cache(2)
    append(cache, [2, 1], 1, 2, 10)
    cache.keep([1])

    cache.add()
    k, _, k_offsets, _ = append(cache, [1, 2], 11, 30, 31)

    assert (k, k_offsets) == ([10, 11, 30, 31], [0, 2, 4])


def test_sequences_that_enter_together_are_kept_apart() -> None:
    cache = new_cache(2)
    cache.keep([])
    cache.add(2)
    append(cache, [1, 2], 1, 10, 11)

    k, _, _, _ = append(cache, [1, 1], 2, 12)

    assert k == [1, 2, 10, 11, 12]


def test_the_same_batch_again_goes_behind_itself() -> None:
    cache, batch = new_cache(1), batch_of(2)
    cache.append(0, rows(1, 2), rows(1, 2), batch)
    cache.advance(batch)

    k, _, _, _ = cache.append(0, rows(3, 4), rows(3, 4), batch)

    assert k[:, 0, 0].tolist() == [1, 2, 3, 4]


def test_a_full_cache_takes_the_last_token() -> None:
    cache = new_cache(1, capacity=3)
    append(cache, [2], 1, 2)

    k, _, _, _ = append(cache, [1], 3)

    assert k == [1, 2, 3]


def test_more_tokens_than_the_capacity_are_refused() -> None:
    cache = new_cache(2, capacity=3)
    append(cache, [2, 1], 1, 2, 3)

    with pytest.raises(ValueError, match=r"grow to 4 tokens; the cache holds 3 tokens a sequence"):
        append(cache, [2, 1], 4, 5, 6)


def test_a_batch_of_other_sequences_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the batch has 3 sequences; expected 2"):
        append(new_cache(2), [1, 1, 1], 1, 2, 3)


@pytest.mark.parametrize("indices", [[0, 0], [2], [-1]], ids=["twice", "too-large", "negative"])
def test_indices_that_name_no_sequence_are_refused(indices: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected different numbers below 2"):
        new_cache(2).keep(indices)


def test_more_sequences_than_there_is_room_for_are_refused() -> None:
    cache = new_cache(2)
    cache.keep([0])

    with pytest.raises(ValueError, match=r"2 sequences to add, but the cache has room for 1"):
        cache.add(2)


def test_a_cache_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"num_sequences 0 and capacity 16; expected at least 1"):
        new_cache(0)


def test_num_bytes_counts_keys_and_values_of_all_layers() -> None:
    layers, heads, width, fp32 = 2, 2, 8, 4

    assert new_cache(3, capacity=5).num_bytes == 2 * layers * (3 * 5) * heads * width * fp32


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
@pytest.mark.parametrize("chunk", [1, 4, 13], ids=["one", "four", "whole"])
def test_logits_in_chunks_equal_logits_in_one_forward(name: str, chunk: int) -> None:
    model, ids = tiny_model(name), torch.arange(13) * 7 % 97
    cache = KVCache(model.config, 1, 13, dtype=torch.float32, device="cpu")

    with torch.inference_mode():
        parts = [
            model.logits(PackedBatch.from_lengths(part, [len(part)], starts=[start * chunk]), cache)
            for start, part in enumerate(ids.split(chunk))
        ]
        expected = model.logits(PackedBatch.from_sequences([ids]))

    torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=1e-5)
