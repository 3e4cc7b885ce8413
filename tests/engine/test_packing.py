"""PackedBatch: layout, padded border, bad input."""

import pytest
import torch

from weldlm.packing import PackedBatch


def test_sequences_lie_end_to_end_with_their_own_positions() -> None:
    batch = PackedBatch.from_sequences([[5, 6, 7], [], [8, 9]])

    assert batch.ids.tolist() == [5, 6, 7, 8, 9]
    assert batch.offsets.tolist() == [0, 3, 3, 5]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1]
    assert (batch.max_length, batch.num_sequences, batch.num_tokens) == (3, 3, 5)


def test_no_sequences_is_an_empty_batch() -> None:
    batch = PackedBatch.from_sequences([])

    assert batch.offsets.tolist() == [0]
    assert (batch.num_tokens, batch.num_sequences, batch.max_length) == (0, 0, 0)


def test_starts_shift_the_positions() -> None:
    batch = PackedBatch.from_lengths(torch.arange(5), [2, 3], starts=[7, 0])

    assert batch.positions.tolist() == [7, 8, 0, 1, 2]


def test_rows_behind_the_last_sequence_belong_to_nobody() -> None:
    batch = PackedBatch.from_lengths(torch.arange(6), [2, 2])

    assert batch.offsets.tolist() == [0, 2, 4]
    assert batch.num_tokens == 6


def test_padded_round_trip_keeps_real_tokens_and_zeroes_the_rest() -> None:
    ids = torch.tensor([[1, 2, 9], [3, 9, 9], [4, 5, 6]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])

    batch = PackedBatch.from_padded(ids, mask)

    assert batch.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert torch.equal(batch.to_padded(batch.ids, mask), ids * mask)


def test_left_padding_is_packed_too() -> None:
    batch = PackedBatch.from_padded(torch.tensor([[9, 1, 2]]), torch.tensor([[0, 1, 1]]))

    assert batch.ids.tolist() == [1, 2]
    assert batch.positions.tolist() == [0, 1]


def test_more_lengths_than_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="lengths sum to 4, but only 3 ids"):
        PackedBatch.from_lengths(torch.arange(3), [2, 2])


def test_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="expected two equal shapes"):
        PackedBatch.from_padded(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 2))
