"""PackedCollator: one row of sequences end to end, and what causal models make of it."""

import pytest
import torch

import weldlm
from tests.engine.patched_models import tiny_model
from tests.engine.their_models import ragged_ids
from weldlm.collator import PackedCollator


def test_rows_lie_end_to_end() -> None:
    batch = PackedCollator()([{"input_ids": [7, 8, 9]}, {"input_ids": [5]}, {"input_ids": [6, 4]}])

    assert batch["input_ids"].tolist() == [[7, 8, 9, 5, 6, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert batch["labels"].tolist() == [[-100, 8, 9, -100, -100, 4]]


def test_labels_of_rows_are_taken() -> None:
    batch = PackedCollator()(
        [{"input_ids": [7, 8], "labels": [7, -100]}, {"input_ids": [5, 6], "labels": [-100, 6]}]
    )

    assert batch["labels"].tolist() == [[-100, -100, -100, 6]]


@pytest.mark.parametrize("is_patched", [False, True], ids=["plain", "patched"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "qwen3"])
def test_packed_rows_have_the_loss_of_rows_alone(family: str, is_patched: bool) -> None:
    rows = ragged_ids(3, 11, 1, 7)
    model = tiny_model(family).train()
    alone = [
        model(input_ids=ids.unsqueeze(0), labels=ids.unsqueeze(0)).loss * (len(ids) - 1)
        for ids in rows
        if len(ids) > 1
    ]
    expected = torch.stack(alone).sum() / sum(len(ids) - 1 for ids in rows)
    report = weldlm.patch(model) if is_patched else None

    loss = model(**PackedCollator()([{"input_ids": ids} for ids in rows])).loss

    assert report is None or report.padding == "packed"
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("rows", "message"), [
    ([], "a batch of 0 rows was given"),
    ([{"input_ids": [1, 2], "labels": [1]}], r"input_ids \(2,\) and labels \(1,\)"),
])  # fmt: skip
def test_bad_rows_are_refused(rows: list[dict[str, list[int]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PackedCollator()(rows)
