"""Rows that wait for an encoder: none is lost, and no step is larger than its budget."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weldlm.batch_limits import BatchLimits
from weldlm.encoder_queue import EncoderQueue
from weldlm.encoding import packed_batches

LENGTHS = st.lists(st.integers(1, 30), max_size=40)


def steps(queue: EncoderQueue[int]) -> list[list[tuple[int, int]]]:
    """(key, number of tokens) of each step."""
    found = []
    while taken := queue.take():
        found.append([(key, len(ids)) for key, ids in taken])
    return found


@given(LENGTHS, st.integers(1, 50), st.integers(1, 9))
def test_rows_go_in_their_order_and_fill_steps(
    lengths: list[int], max_batch_tokens: int, batch_size: int
) -> None:
    limits = BatchLimits(max_batch_tokens=max_batch_tokens, batch_size=batch_size)
    queue: EncoderQueue[int] = EncoderQueue(limits)
    for key, length in enumerate(lengths):
        queue.add(key, [7] * length)

    found = steps(queue)

    assert [pair for step in found for pair in step] == list(enumerate(lengths))
    more = [*found[1:], [(0, max_batch_tokens)]]
    for step, following in zip(found, more, strict=False):
        num_tokens = sum(length for _, length in step)
        assert len(step) <= batch_size
        assert num_tokens <= max_batch_tokens or len(step) == 1
        # nothing waits for which there is room
        assert len(step) == batch_size or num_tokens + following[0][1] > max_batch_tokens


def test_a_row_that_is_dropped_is_not_taken() -> None:
    queue: EncoderQueue[str] = EncoderQueue(BatchLimits())
    queue.add("a", [1])
    queue.add("b", [2])

    queue.drop("a")
    queue.drop("nobody")

    assert len(queue) == 1
    assert queue.take() == [("b", [2])]
    assert queue.take() == []


@given(LENGTHS, st.integers(1, 50))
def test_rows_of_a_file_are_packed_by_length_under_the_same_budget(
    lengths: list[int], max_batch_tokens: int
) -> None:
    rows = [[7] * length for length in lengths]

    found = list(packed_batches(rows, max_batch_tokens=max_batch_tokens, device="cpu"))

    assert sorted(place for places, _ in found for place in places) == list(range(len(rows)))
    for places, batch in found:
        assert batch.num_tokens <= max_batch_tokens or len(places) == 1
        assert batch.offsets.diff().tolist() == [lengths[place] for place in places]


@pytest.mark.parametrize("budget", [64, 100, 1_000])
def test_packing_a_file_leaves_no_room_for_its_next_row(budget: int) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (500,), generator=generator).tolist()
    rows = [[7] * length for length in lengths]

    found = list(packed_batches(rows, max_batch_tokens=budget, device="cpu"))

    for (_, batch), (places, _) in pairwise(found):
        assert batch.num_tokens + lengths[places[0]] > budget
