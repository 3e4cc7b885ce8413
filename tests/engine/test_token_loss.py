"""Loss and gradient are those of the mean over all labels, however the rows are split."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.engine.tiny_models import tiny_model
from tests.engine.tiny_runs import tiny_shards
from weldlm.data.plan import PackingPlan
from weldlm.heads import CausalLM
from weldlm.objectives import MicroBatch, causal_lm_labels
from weldlm.packing import PackedBatch
from weldlm.token_loss import accumulate_gradients, mean_loss


@pytest.fixture
def plan(tmp_path: Path) -> PackingPlan:
    return PackingPlan(tiny_shards(tmp_path / "data"), row_length=16, seed=0)


@pytest.fixture
def model() -> CausalLM:
    return tiny_model(context_length=16).double()


def split(plan: PackingPlan, sizes: list[int]) -> list[MicroBatch]:
    ends = torch.tensor(sizes).cumsum(0).tolist()
    batches = [plan.rows(end - size, size) for size, end in zip(sizes, ends, strict=True)]
    return [MicroBatch.of_tokens(batch, causal_lm_labels(batch)) for batch in batches]


def plain_loss(model: CausalLM, batch: PackedBatch) -> Tensor:
    """Each sequence alone, with torch's own cross-entropy."""
    sequences = batch.ids.tensor_split(batch.offsets[1:-1].long())
    logits = [model.logits(PackedBatch.from_sequences([ids]))[:-1] for ids in sequences]
    return functional.cross_entropy(torch.cat(logits), torch.cat([ids[1:] for ids in sequences]))


def gradients(model: CausalLM) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "sizes",
    [[8], [4, 4], [2, 2, 2, 2], [1] * 8, [3, 3, 2]],
    ids=["8x1", "4x2", "2x4", "1x8", "uneven"],
)
def test_split_gives_loss_and_gradient_of_plain_pytorch(
    plan: PackingPlan, model: CausalLM, sizes: list[int]
) -> None:
    expected = plain_loss(model, plan.rows(0, 8))
    expected.backward()
    expected_gradients = gradients(model)
    model.zero_grad()

    loss = accumulate_gradients(model, split(plan, sizes), dtype="float32")

    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-7, atol=0)
    torch.testing.assert_close(gradients(model), expected_gradients, rtol=1e-9, atol=1e-12)


def test_micro_batch_without_labels_changes_nothing(plan: PackingPlan, model: CausalLM) -> None:
    batches = split(plan, [2])
    silent = PackedBatch.from_lengths(torch.arange(5), [1] * 5)
    alone = accumulate_gradients(model, batches, dtype="float32")
    expected = gradients(model)
    model.zero_grad()

    silent_batch = MicroBatch.of_tokens(silent, causal_lm_labels(silent))
    loss = accumulate_gradients(model, [silent_batch, *batches], dtype="float32")

    assert loss == alone
    torch.testing.assert_close(gradients(model), expected, rtol=1e-12, atol=1e-15)


def test_labels_are_counted_on_the_host(plan: PackingPlan) -> None:
    (micro_batch,) = split(plan, [4])

    batch, _ = micro_batch.arguments
    assert isinstance(batch, PackedBatch)
    assert micro_batch.num_labels == 64 - batch.num_sequences


@pytest.mark.parametrize("sizes", [[8], [3, 5]], ids=["whole", "split"])
def test_mean_loss_is_that_of_plain_pytorch(
    plan: PackingPlan, model: CausalLM, sizes: list[int]
) -> None:
    found = mean_loss(model, split(plan, sizes), dtype="float32", is_stopped=lambda: False)

    assert found is not None
    assert found[0] == pytest.approx(plain_loss(model, plan.rows(0, 8)).item(), rel=1e-7)


def test_mean_loss_stops_when_asked(plan: PackingPlan, model: CausalLM) -> None:
    answers = iter([False, True])

    found = mean_loss(
        model, split(plan, [1, 1, 1]), dtype="float32", is_stopped=lambda: next(answers)
    )

    assert found is None
