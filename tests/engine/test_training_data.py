"""A step's micro-batches are slices of the same rows or examples, for every objective."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.objective_cases import CASES, NUM_EXAMPLES, ObjectiveCase, tiny_examples
from weldlm.data import TokenShards
from weldlm.heads import Model
from weldlm.objectives import CausalLMObjective, EncodedTexts, LabelledSequences, MicroBatch
from weldlm.packing import PackedBatch
from weldlm.token_loss import accumulate_gradients
from weldlm.train_settings import TrainSettings
from weldlm.training_data import ExampleBatches, TokenRows, TrainingData, best_fit

EIGHT = TrainSettings(steps=4, rows_per_step=8, row_length=14)
SPLITS = {"8x1": 8, "4x2": 4, "2x4": 2, "1x8": 1, "uneven": 3}


def build(case: ObjectiveCase, folder: Path, settings: TrainSettings) -> TrainingData:
    data = case.data(folder)
    if isinstance(data, TokenShards):
        return TokenRows(data, case.objective or CausalLMObjective(), settings, 0)
    return ExampleBatches(data, settings, 0)


def loss_and_gradient(model: Model, batches: list[MicroBatch]) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    loss = accumulate_gradients(model, batches, dtype="float32")
    grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return loss.double(), torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize("rows", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("name", CASES)
def test_split_changes_neither_loss_nor_gradient(name: str, rows: int, tmp_path: Path) -> None:
    model = CASES[name].model().double()
    whole = build(CASES[name], tmp_path, EIGHT).micro_batches(1)
    expected_loss, expected = loss_and_gradient(model, whole)

    split = build(CASES[name], tmp_path, EIGHT.changed(micro_batch_rows=rows)).micro_batches(1)
    loss, gradient = loss_and_gradient(model, split)

    assert len(split) == -(-8 // rows)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)  # a loss sum is fp32
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_ranks_share_the_samples_of_a_step(name: str, tmp_path: Path) -> None:
    data = build(CASES[name], tmp_path, EIGHT.changed(micro_batch_rows=3))
    alone = [batch.sample_ids for batch in data.micro_batches(2)]

    shared = [batch.sample_ids for rank in range(3) for batch in data.micro_batches(2, rank, 3)]

    assert np.concatenate(shared).tolist() == np.concatenate(alone).tolist()


@pytest.mark.parametrize("name", ["masked-lm", "span-corruption"])
def test_draws_do_not_depend_on_the_split(name: str, tmp_path: Path) -> None:
    (whole,) = build(CASES[name], tmp_path, EIGHT).micro_batches(3)

    split = build(CASES[name], tmp_path, EIGHT.changed(micro_batch_rows=1)).micro_batches(3)

    labels = torch.cat([batch.arguments[-1] for batch in split])  # type: ignore[misc]
    assert torch.equal(labels, whole.arguments[-1])  # type: ignore[arg-type]


def test_epochs_draw_other_masks(tmp_path: Path) -> None:
    data = build(CASES["masked-lm"], tmp_path, EIGHT.changed(rows_per_step=1, row_length=190))
    batches = [data.micro_batches(epoch)[0] for epoch in (0, 1)]

    ids = [set(batch.sample_ids.tolist()) for batch in batches]

    assert not ids[0] & ids[1]


def test_every_epoch_holds_each_example_once() -> None:
    settings = TrainSettings(epochs=2, rows_per_step=5)
    data = ExampleBatches(tiny_examples("sequences"), settings, 0)

    steps = [data.micro_batches(step)[0].sample_ids for step in range(6)]

    stream = np.concatenate(steps)
    assert sorted(stream[:NUM_EXAMPLES]) == sorted(stream[NUM_EXAMPLES:]) == [*range(NUM_EXAMPLES)]
    assert stream[:NUM_EXAMPLES].tolist() != stream[NUM_EXAMPLES:].tolist()
    assert len(steps[-1]) == 2 * NUM_EXAMPLES - 5 * 5  # the last window is what is left


def test_example_micro_batches_keep_to_their_tokens() -> None:
    examples = tiny_examples("sequences")
    data = ExampleBatches(examples, EIGHT.changed(micro_batch_tokens=20), 0)

    batches = data.micro_batches(0)

    assert max(batch.num_tokens for batch in batches) <= 20
    found = np.sort(np.concatenate([batch.sample_ids for batch in batches]))
    assert found.tolist() == np.sort(data.order(0, 8)).tolist()


def test_best_fit_fills_the_fullest_bin_that_has_room() -> None:
    bins = best_fit(np.array([6, 4, 7, 3, 2, 12]), budget=10)

    assert [items.tolist() for items in bins] == [[5], [2, 3], [0, 1], [4]]


def test_class_weights_scale_the_loss_of_their_examples() -> None:
    texts = EncodedTexts.of([[5, 6], [7, 8, 9]])
    labels, weights = np.array([0, 2]), np.array([0.5, 1.0, 2.0], np.float32)
    model = CASES["sequence-labels"].model()
    alone = [
        float(model(*LabelledSequences(texts, labels).select(np.array([i])).arguments)[0].detach())
        for i in (0, 1)
    ]

    both = LabelledSequences(texts, labels, weights).select(np.arange(2))
    loss_sum, count = model(*both.arguments)

    assert float(loss_sum.detach()) == pytest.approx(0.5 * alone[0] + 2 * alone[1], rel=1e-5)
    assert int(count) == both.num_labels == 2


def test_answers_are_asked_and_prompts_are_not() -> None:
    examples = CASES["prompt-answers"].data(Path())
    chosen = examples.select(np.array([1, 0]))  # type: ignore[union-attr]
    batch, labels = chosen.arguments
    assert isinstance(batch, PackedBatch)
    assert isinstance(labels, Tensor)

    texts, is_answer = examples.texts, examples.is_answer  # type: ignore[union-attr]
    expected = [
        int(texts.ids[place + 1]) if place + 1 < end and is_answer[place + 1] else -100
        for begin, end in (texts.offsets[1:3], texts.offsets[0:2])
        for place in range(begin, end)
    ]

    assert labels.tolist() == expected


BAD = {
    "label": (LabelledSequences, "example 1 has the label 3; expected 0 to 2"),
    "empty": (LabelledSequences, "example 0 has no token"),
    "long": (LabelledSequences, "example 0 has 65 tokens; expected at most the model's context"),
    "id": (LabelledSequences, "example 1 holds the id 97; expected 0 to 96"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_examples_are_named(name: str) -> None:
    texts = {
        "empty": [[], [5]],
        "long": [[5] * 65, [6]],
        "id": [[5, 6], [7, 97]],
    }.get(name, [[5], [6]])
    labels = np.array([0, 3 if name == "label" else 1])

    with pytest.raises(ValueError, match=BAD[name][1]):
        LabelledSequences(EncodedTexts.of(texts), labels).check(
            CASES["sequence-labels"].model().config
        )
