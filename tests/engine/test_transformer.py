"""The transformer on packed sequences: packed equals unpacked, nothing leaks."""

import pytest
import torch

from tests.engine.tiny_models import tiny_model
from weldlm.packing import PackedBatch

FAMILIES = pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])


def sequences(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(97, (length,), generator=generator) for length in lengths]


@FAMILIES
def test_packed_equals_one_by_one(name: str) -> None:
    model, parts = tiny_model(name), sequences(7, 1, 0, 30, 13)

    with torch.no_grad():
        packed = model.logits(PackedBatch.from_sequences(parts))
        alone = torch.cat([model.logits(PackedBatch.from_sequences([part])) for part in parts])

    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


@FAMILIES
@pytest.mark.parametrize("place", [0, 4, 8], ids=["first", "middle", "last"])
def test_a_changed_token_leaks_into_no_other_document(name: str, place: int) -> None:
    model, (first, second) = tiny_model(name), sequences(9, 11)
    changed = first.clone()
    changed[place] = (changed[place] + 1) % 97

    with torch.no_grad():
        before = model.logits(PackedBatch.from_sequences([first, second]))
        after = model.logits(PackedBatch.from_sequences([changed, second]))

    assert torch.equal(before[len(first) :], after[len(first) :])
    assert not torch.equal(before[: len(first)], after[: len(first)])


@FAMILIES
def test_a_token_sees_no_later_one(name: str) -> None:
    model, (part,) = tiny_model(name), sequences(12)
    changed = part.clone()
    changed[8:] = 0

    with torch.no_grad():
        before = model.logits(PackedBatch.from_sequences([part]))
        after = model.logits(PackedBatch.from_sequences([changed]))

    assert torch.equal(before[:8], after[:8])


@FAMILIES
def test_tokens_behind_the_last_sequence_change_nothing(name: str) -> None:
    model, (part, filler) = tiny_model(name), sequences(10, 6)
    filled = PackedBatch.from_lengths(torch.cat((part, filler)), [10])
    labels = torch.cat((part[1:], torch.full((7,), -100)))

    loss_sum, count = model(filled, labels)
    expected, expected_count = model(PackedBatch.from_sequences([part]), labels[:10])

    torch.testing.assert_close(loss_sum, expected, rtol=1e-6, atol=0)
    assert count == expected_count == 9


@FAMILIES
def test_next_token_logits_are_those_after_each_last_token(name: str) -> None:
    model, batch = tiny_model(name), PackedBatch.from_sequences(sequences(4, 1, 9))

    with torch.no_grad():
        last = model.logits(batch)[[3, 4, 13]]

        torch.testing.assert_close(model.next_token_logits(batch), last, rtol=0, atol=1e-6)


def test_an_empty_batch_has_no_loss() -> None:
    labels = torch.empty(0, dtype=torch.int64)

    with torch.no_grad():
        loss_sum, count = tiny_model()(PackedBatch.from_sequences([]), labels)

    assert (float(loss_sum), int(count)) == (0.0, 0)


@pytest.mark.parametrize(
    ("name", "ids", "message"),
    [
        ("gpt2-tiny", [1, 97], "has an id 97; expected 0 to 96, the model's vocab_size being 97"),
        ("gpt2-tiny", [-1], "has an id -1; expected 0 to 96"),
        (
            "gpt2-tiny",
            [1] * 65,
            "has the position 64; expected 0 to 63, the model's",
        ),
        ("llama-tiny", [1] * 65, "has the position 64; expected 0 to 63"),
    ],
    ids=["id", "negative-id", "learned-position", "rotary-position"],
)
def test_what_no_table_has_is_refused(name: str, ids: list[int], message: str) -> None:
    model = tiny_model(name)

    with pytest.raises(ValueError, match=message):
        model.logits(PackedBatch.from_sequences([ids]))
