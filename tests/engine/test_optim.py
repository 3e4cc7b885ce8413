"""Which weights decay, and how the learning rate runs."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.heads import Seq2SeqLM, SequenceClassifier
from weldlm.optim import build_optimizer, learning_rate, lr_factors, set_learning_rate
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


def depths(model: torch.nn.Module) -> dict[str, int]:
    """How often the factor was taken, by name."""
    factors = lr_factors(model, 0.5)
    return {name: round(-math.log2(factor)) for name, factor in factors.items()}


def test_learning_rate_falls_from_the_head_to_the_embedding() -> None:
    found = depths(SequenceClassifier(tiny_config("bert-base", num_layers=3, labels=("a", "b"))))

    parts = {".".join(name.split(".")[:3]): depth for name, depth in found.items()}
    assert parts == {
        "transformer.embedding.tokens": 4,
        "transformer.embedding.positions": 4,
        "transformer.embedding.token_types": 4,
        "transformer.embedding.norm": 4,
        "transformer.blocks.0": 3,
        "transformer.blocks.1": 2,
        "transformer.blocks.2": 1,
        "pooler.dense.weight": 0,
        "pooler.dense.bias": 0,
        "classifier.weight": 0,
        "classifier.bias": 0,
    }


def test_encoder_and_decoder_are_counted_from_their_own_end() -> None:
    config = tiny_config("t5-v1.1-small", num_layers=2, num_encoder_layers=3)

    found = depths(Seq2SeqLM(config))

    parts = {".".join(name.split(".")[:3]): depth for name, depth in found.items()}
    assert parts == {
        "encoder.embedding.tokens": 4,
        "encoder.relative_bias.weight": 4,
        "encoder.blocks.0": 3,
        "encoder.blocks.1": 2,
        "encoder.blocks.2": 1,
        "encoder.norm.weight": 0,
        "decoder.relative_bias.weight": 3,
        "decoder.blocks.0": 2,
        "decoder.blocks.1": 1,
        "decoder.norm.weight": 0,
        "head.weight": 0,
    }


def weights_after_a_step(settings: TrainSettings, lr: float) -> dict[str, Tensor]:
    model = tiny_model()
    optimizer = build_optimizer(model, settings)
    set_learning_rate(optimizer, lr)
    for weight in model.parameters():
        weight.grad = torch.linspace(-1, 2, weight.numel()).reshape(weight.shape)
    optimizer.step()
    return {name: weight.detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_layers_take_steps_of_their_rates(optimizer: OptimizerName) -> None:
    settings = SETTINGS.changed(optimizer=optimizer)
    factors = lr_factors(tiny_model(), 0.5)

    layered = weights_after_a_step(settings.changed(layer_decay=0.5), 0.01)

    flat = {
        factor: weights_after_a_step(settings, 0.01 * factor) for factor in set(factors.values())
    }
    assert sorted(flat) == [0.125, 0.25, 0.5, 1.0]
    assert all(torch.equal(layered[name], flat[factors[name]][name]) for name in layered)


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
