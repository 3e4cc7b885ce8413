"""Which weights decay, and how the learning rate runs."""

import math
from typing import get_args

import pytest
import torch

from tests.engine.tiny_models import tiny_model
from weldlm.optim import build_optimizer, learning_rate
from weldlm.train_settings import OptimizerName, TrainSettings

SETTINGS = TrainSettings(steps=101, warmup_steps=20, lr=0.5, min_lr_fraction=0.2, weight_decay=0.3)


def decay_by_name(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    decay = {
        id(weight): group["weight_decay"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    return {name: decay[id(weight)] for name, weight in model.named_parameters()}


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
def test_only_matrices_decay(name: str, optimizer: OptimizerName) -> None:
    model = tiny_model(name)

    decay = decay_by_name(model, build_optimizer(model, SETTINGS.changed(optimizer=optimizer)))

    assert decay == {
        name: 0.0 if "norm" in name or name.endswith("bias") else 0.3
        for name, _ in model.named_parameters()
    }


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
@pytest.mark.parametrize("tie_embeddings", [True, False], ids=["tied", "untied"])
def test_every_weight_is_there_once(tie_embeddings: bool, optimizer: OptimizerName) -> None:
    model = tiny_model(tie_embeddings=tie_embeddings)

    groups = build_optimizer(model, SETTINGS.changed(optimizer=optimizer)).param_groups
    weights = [id(weight) for group in groups for weight in group["params"]]

    assert sorted(weights) == sorted(id(weight) for weight in model.parameters())
    assert len(set(weights)) == len(weights)


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_frozen_weight_is_left_out(optimizer: OptimizerName) -> None:
    model = tiny_model()
    model.transformer.embedding.tokens.weight.requires_grad_(False)

    groups = build_optimizer(model, SETTINGS.changed(optimizer=optimizer)).param_groups
    weights = {id(weight) for group in groups for weight in group["params"]}

    assert id(model.transformer.embedding.tokens.weight) not in weights


def test_adafactor_is_that_of_torch_with_groups_that_decay() -> None:
    model, copy = tiny_model(), tiny_model()
    settings = SETTINGS.changed(optimizer="adafactor", lr=0.1)
    weights = list(copy.parameters())
    theirs = [
        torch.optim.Adafactor([w for w in weights if w.dim() >= 2], lr=0.1, weight_decay=0.3),
        torch.optim.Adafactor([w for w in weights if w.dim() < 2], lr=0.1),
    ]

    optimizer = build_optimizer(model, settings)
    for step in range(3):
        torch.manual_seed(step)
        for weight, other in zip(model.parameters(), weights, strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        for each in (optimizer, *theirs):
            each.step()

    assert all(map(torch.equal, model.parameters(), weights))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.5 / 21),
        (9, 0.5 * 10 / 21),
        (20, 0.5),
        (40, 0.1 + 0.4 * (1 + math.cos(math.pi / 4)) / 2),
        (60, 0.3),
        (100, 0.1),
        (1000, 0.1),
    ],
    ids=["first", "rising", "peak", "quarter", "half", "last", "beyond"],
)
def test_learning_rate_rises_and_follows_a_cosine(step: int, expected: float) -> None:
    assert learning_rate(step, SETTINGS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (TrainSettings(steps=1, warmup_steps=0, lr=0.5), [0.5]),
        (TrainSettings(steps=2, warmup_steps=2, lr=0.9), [0.3, 0.6]),
        (TrainSettings(steps=2, warmup_steps=1, lr=0.5), [0.25, 0.5]),
    ],
    ids=["one step", "all warm-up", "no room for the cosine"],
)
def test_shortest_schedules(settings: TrainSettings, expected: list[float]) -> None:
    rates = [learning_rate(step, settings) for step in range(len(expected))]

    assert rates == pytest.approx(expected)


def test_unknown_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="steps or warmup_steps is None"):
        learning_rate(0, TrainSettings(minutes=1))
