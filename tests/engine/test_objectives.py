"""Labels are the following ids, and never those of another sequence."""

import pytest
import torch

from weldlm.objectives import IGNORED, causal_lm_labels
from weldlm.packing import PackedBatch


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([6], [11, 12, 13, 14, 15, IGNORED]),
        ([2, 3, 1], [11, IGNORED, 13, 14, IGNORED, IGNORED]),
        ([1, 1, 1, 1, 1, 1], [IGNORED] * 6),
        ([0, 2, 0, 0, 4, 0], [11, IGNORED, 13, 14, 15, IGNORED]),
        ([2, 2], [11, IGNORED, 13, IGNORED, IGNORED, IGNORED]),
        ([0, 0], [IGNORED] * 6),
        ([], [IGNORED] * 6),
    ],
    ids=["one", "three", "single tokens", "empty ones", "tail of nobody", "all empty", "none"],
)
def test_label_is_the_next_id_of_the_sequence(lengths: list[int], expected: list[int]) -> None:
    batch = PackedBatch.from_lengths(torch.arange(10, 16), lengths)

    assert causal_lm_labels(batch).tolist() == expected


def test_no_token_gives_no_label() -> None:
    batch = PackedBatch.from_lengths(torch.empty(0, dtype=torch.int64), [])

    assert causal_lm_labels(batch).tolist() == []
