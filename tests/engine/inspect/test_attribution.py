"""Integrated gradients against hand computation and against captum on transformers' models."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.inspect.watched_models import IDS, TARGET_IDS, both_models
from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.heads import SequenceClassifier
from weldlm.inspect import Sample, attribute_tokens, integrate_gradients
from weldlm.packing import PackedBatch

STEPS = 20
WITHOUT = torch.full_like(IDS, 3)  # the ids of the baseline


def test_a_polynomial_is_integrated_by_hand() -> None:
    """F = x^2 y + 5 z: along the ray dF/dx = 2 a^2 x y and dF/dy = a^2 x^2."""
    x = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)

    found, ends = integrate_gradients(
        lambda p: p[:, 0] ** 2 * p[:, 1] + 5 * p[:, 2], x, torch.zeros_like(x), num_steps=2
    )

    torch.testing.assert_close(found, torch.tensor([8.0, 4.0, 20.0], dtype=torch.float64))
    assert ends == (0.0, 32.0)


def test_the_number_of_steps_at_once_changes_nothing() -> None:
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)

    def score(points: Tensor) -> Tensor:
        return (points.sin().sum(dim=(1, 2)) * points[:, 0, 0]).exp()

    one, all_ = (
        integrate_gradients(score, x, x.flip(0), num_steps=7, steps_at_once=at_once)[0]
        for at_once in (1, 7)
    )

    torch.testing.assert_close(one, all_)


def test_steps_are_reported() -> None:
    said: list[tuple[int, int]] = []
    x = torch.ones(3)

    integrate_gradients(
        lambda points: points.sum(dim=1),
        x,
        0 * x,
        num_steps=5,
        steps_at_once=2,
        report=lambda done, total: said.append((done, total)),
    )

    assert said == [(2, 5), (4, 5), (5, 5)]


def captum_tokens(
    theirs: Any, sides: dict[str, tuple[Tensor, Tensor]], row: int, column: int
) -> Tensor:
    """Of their model, whose inputs are embeddings of (ids, ids of the baseline)."""
    captum = pytest.importorskip("captum.attr")
    table = theirs.get_input_embeddings()
    names = list(sides)

    def score(*embeddings: Tensor) -> Tensor:
        logits = theirs(**dict(zip(names, embeddings, strict=True))).logits
        return logits[:, row].log_softmax(dim=-1)[:, column]

    parts = captum.IntegratedGradients(score).attribute(
        tuple(table(ids.unsqueeze(0)).detach() for ids, _ in sides.values()),
        baselines=tuple(table(ids.unsqueeze(0)).detach() for _, ids in sides.values()),
        n_steps=STEPS,
        method="gausslegendre",
    )
    return torch.cat([part[0].sum(dim=-1) for part in parts])


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_tokens_are_those_of_captum(family: str, tmp_path: Path) -> None:
    theirs, ours, sample = both_models(family, tmp_path)
    expected = captum_tokens(theirs, {"inputs_embeds": (IDS, WITHOUT)}, row=7, column=42)

    found = attribute_tokens(
        ours, sample, row=7, column=42, baseline=Sample(WITHOUT), num_steps=STEPS
    )

    torch.testing.assert_close(found.tokens, expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_source_and_target_are_those_of_captum(family: str, tmp_path: Path) -> None:
    theirs, ours, sample = both_models(family, tmp_path)
    target_baseline = torch.cat((TARGET_IDS[:1], WITHOUT[: len(TARGET_IDS) - 1]))
    sides = {
        "inputs_embeds": (IDS, WITHOUT),
        "decoder_inputs_embeds": (TARGET_IDS, target_baseline),
    }
    expected = captum_tokens(theirs, sides, row=-1, column=42)

    found = attribute_tokens(
        ours,
        sample,
        row=-1,
        column=42,
        baseline=Sample(WITHOUT, target_baseline),
        num_steps=STEPS,
    )

    torch.testing.assert_close(found.tokens, expected.float(), rtol=1e-3, atol=1e-4)
    assert found.tokens[len(IDS)] == 0  # the start of a target is the same in both


@pytest.mark.parametrize("score", ["logit", "log_probability"])
def test_a_label_is_attributed_whole(score: Any) -> None:
    torch.manual_seed(0)
    model = SequenceClassifier(tiny_config("bert-base", labels=("a", "b", "c"))).eval()

    found = attribute_tokens(model, Sample(IDS), row=0, column=1, score=score, num_steps=100)

    logits = model.logits(PackedBatch.from_sequences([IDS])).detach()[0]
    expected = logits if score == "logit" else logits.log_softmax(dim=-1)
    assert found.score == pytest.approx(float(expected[1]), abs=1e-6)
    assert found.completeness_error < 1e-4
    assert float(found.tokens.sum()) == pytest.approx(found.score - found.baseline_score, abs=1e-4)


def test_few_steps_have_a_completeness_error_that_more_steps_mend() -> None:
    model, sample, baseline = tiny_model(), Sample(IDS), Sample(WITHOUT)

    few, many = (
        attribute_tokens(model, sample, row=-1, column=9, baseline=baseline, num_steps=steps)
        for steps in (1, 60)
    )

    assert few.completeness_error > 10 * many.completeness_error
    assert many.completeness_error < 1e-3


def test_later_tokens_have_no_part_in_a_causal_score() -> None:
    found = attribute_tokens(tiny_model(), Sample(IDS), row=4, column=9, num_steps=3)

    assert not found.tokens[5:].any()
    assert found.tokens[:5].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row": 11}, "row is 11; expected 0 to 10"),
        ({"column": 97}, "column is 97; expected 0 to 96"),
        ({"num_steps": 0}, "num_steps is 0; expected at least 1"),
        ({"baseline": Sample(IDS[:4])}, "baseline has 4 tokens and the sample 11"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute_tokens(tiny_model(), Sample(IDS), **{"row": 0, "column": 5, **options})
