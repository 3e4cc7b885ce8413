"""The packing plan reads every token once an epoch and gives the same rows however it is asked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from weldlm.data import TokenShards, write_shards
from weldlm.data.plan import PackingPlan

LENGTHS = [3, 0, 1, 11, 6, 0, 0, 17, 2, 1, 5]
DOCUMENT_OF = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
NUM_TOKENS = sum(LENGTHS)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """Every token's id is its place in the corpus."""
    documents = np.split(np.arange(NUM_TOKENS), np.cumsum(LENGTHS)[:-1])
    folder: Path = tmp_path_factory.mktemp("plan") / "shards"
    return write_shards(folder, documents, vocab_size=NUM_TOKENS, tokens_per_file=10)


@pytest.mark.parametrize("epoch", [0, 1, 5])
@pytest.mark.parametrize("row_length", [2, 7, 16, NUM_TOKENS, 100])
def test_epoch_holds_every_token_once(shards: TokenShards, row_length: int, epoch: int) -> None:
    plan = PackingPlan(shards, row_length=row_length, seed=3)
    first = epoch * NUM_TOKENS // row_length
    end = -(-(epoch + 1) * NUM_TOKENS // row_length)

    ids = plan.rows(first, end - first).ids.numpy()
    begin = epoch * NUM_TOKENS - first * row_length

    assert sorted(ids[begin : begin + NUM_TOKENS]) == list(range(NUM_TOKENS))


@pytest.mark.parametrize("row_length", [2, 7, 100])
def test_sequence_is_a_piece_of_one_document(shards: TokenShards, row_length: int) -> None:
    batch = PackingPlan(shards, row_length=row_length, seed=3).rows(0, 40)
    within = torch.ones(batch.num_tokens - 1, dtype=torch.bool)
    within[batch.offsets[1:-1].long() - 1] = False

    steps = batch.ids.diff()[within]
    documents = torch.from_numpy(DOCUMENT_OF)[batch.ids].diff()[within]

    assert (steps == 1).all()
    assert (documents == 0).all()


def test_no_sequence_is_empty_or_longer_than_a_row(shards: TokenShards) -> None:
    lengths = PackingPlan(shards, row_length=7, seed=3).rows(5, 40).offsets.diff()

    assert 1 <= lengths.min() <= lengths.max() <= 7


def test_positions_count_from_the_start_of_the_sequence(shards: TokenShards) -> None:
    batch = PackingPlan(shards, row_length=7, seed=3).rows(0, 13)

    expected = torch.cat([torch.arange(int(length)) for length in batch.offsets.diff()])

    assert torch.equal(batch.positions, expected)


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_slices_equal_the_whole(shards: TokenShards, size: int) -> None:
    plan = PackingPlan(shards, row_length=7, seed=3)

    whole = plan.rows(100, 12)
    slices = [plan.rows(row, min(size, 112 - row)) for row in range(100, 112, size)]

    assert torch.equal(torch.cat([part.ids for part in slices]), whole.ids)
    assert torch.equal(torch.cat([part.positions for part in slices]), whole.positions)


def test_far_row_equals_reading_up_to_it(shards: TokenShards) -> None:
    read = PackingPlan(shards, row_length=7, seed=3)
    rows = [read.rows(row, 1).ids for row in range(500)]

    sought = PackingPlan(shards, row_length=7, seed=3).rows(499, 1).ids

    assert torch.equal(sought, rows[499])


def test_row_a_billion_epochs_away_is_found_at_once(shards: TokenShards) -> None:
    plan = PackingPlan(shards, row_length=NUM_TOKENS, seed=3)

    assert sorted(plan.rows(10**9, 1).ids.tolist()) == list(range(NUM_TOKENS))


@pytest.mark.parametrize(
    ("first", "second"), [((3, 0), (3, 1)), ((3, 0), (4, 0))], ids=["epochs", "seeds"]
)
def test_order_differs_between(
    shards: TokenShards, first: tuple[int, int], second: tuple[int, int]
) -> None:
    orders = [
        PackingPlan(shards, row_length=NUM_TOKENS, seed=seed).rows(epoch, 1).ids.tolist()
        for seed, epoch in (first, second)
    ]

    assert orders[0] != orders[1]


def test_order_is_the_same_on_every_machine(shards: TokenShards) -> None:
    ids = PackingPlan(shards, row_length=NUM_TOKENS, seed=3).rows(2, 1).ids

    order = list(dict.fromkeys(DOCUMENT_OF[ids].tolist()))

    assert order == [8, 2, 4, 10, 3, 0, 7, 9]


def test_without_a_seed_documents_keep_their_order(shards: TokenShards) -> None:
    plan = PackingPlan(shards, row_length=7, seed=None)

    assert plan.tokens(0, NUM_TOKENS).ids.tolist() == list(range(NUM_TOKENS))


def test_tokens_may_end_inside_a_row(shards: TokenShards) -> None:
    plan = PackingPlan(shards, row_length=7, seed=3)

    assert torch.equal(plan.tokens(4, 18).ids, plan.tokens(0, 21).ids[4:18])


def test_rows_of_a_long_document_are_apart(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", [np.arange(400)], vocab_size=400)

    firsts = PackingPlan(shards, row_length=4, seed=3).rows(0, 100).ids[::4]

    assert sorted(firsts.tolist()) == list(range(0, 400, 4))
    assert (firsts.diff() == 4).sum() < 10


def test_without_a_seed_rows_keep_their_order(shards: TokenShards) -> None:
    plan = PackingPlan(shards, row_length=7, seed=None)

    assert torch.equal(plan.rows(2, 9).ids, plan.tokens(14, 77).ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row_length": 1}, "row_length is 1; expected at least 2"),
        ({"seed": -1}, "seed is -1; expected 0 to"),
    ],
    ids=["row_length", "seed"],
)
def test_bad_setting_is_named(shards: TokenShards, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PackingPlan(shards, **{"row_length": 7, "seed": 3, **changes})


def test_rows_beyond_all_memory_are_refused(shards: TokenShards) -> None:
    plan = PackingPlan(shards, row_length=10**9, seed=3)

    with pytest.raises(
        ValueError, match="a step of 1,000,000,000 rows of 1,000,000,000 tokens take"
    ):
        plan.rows(0, 10**9)


def test_no_rows_are_an_empty_batch(shards: TokenShards) -> None:
    batch, sample_ids = PackingPlan(shards, row_length=7, seed=3).samples(0, 0)

    assert (batch.num_tokens, batch.num_sequences, len(sample_ids)) == (0, 0, 0)
