"""Muon and AdamW as one optimizer equal torch's two, on matrices of which each does one thing."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.heads import Model, Seq2SeqLM, SequenceClassifier
from weldlm.muon import MuonAndAdamW, hidden_matrices
from weldlm.optim import build_optimizer
from weldlm.train_settings import TrainSettings

SETTINGS = TrainSettings(steps=9, optimizer="muon", lr=0.02, weight_decay=0.3, eps=1e-6)
# rows of q, k and v of a llama with 4 heads, 2 of keys, of width 8; gate and up of 48
PARTS = {"attention.qkv.weight": [32, 16, 16], "mlp.up.weight": [48, 48]}
NUM_STEPS = 3


def build(model: torch.nn.Module) -> MuonAndAdamW:
    optimizer = build_optimizer(model, SETTINGS)
    assert isinstance(optimizer, MuonAndAdamW)
    return optimizer


def gradients(model: torch.nn.Module, step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        name: torch.randn(weight.shape, generator=generator)
        for name, weight in model.named_parameters()
    }


def take_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, *steps: int) -> None:
    for step in steps:
        drawn = gradients(model, step)
        for name, weight in model.named_parameters():
            weight.grad = drawn[name].clone()
        optimizer.step()


def theirs(model: Model) -> dict[str, Tensor]:
    """The weights after the steps of torch's Muon and AdamW on copies, cut into their parts."""
    parts = {
        name: [part.clone().requires_grad_() for part in weight.detach().split(rows(name, weight))]
        for name, weight in model.named_parameters()
    }
    muon = torch.optim.Muon(
        [part for name in parts if is_matrix(name, parts) for part in parts[name]],
        lr=0.02, weight_decay=0.3, adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    others = [part for name in parts if not is_matrix(name, parts) for part in parts[name]]
    adamw = torch.optim.AdamW(
        [
            {"params": [part for part in others if part.dim() == 2], "weight_decay": 0.3},
            {"params": [part for part in others if part.dim() == 1], "weight_decay": 0.0},
        ],
        lr=0.02, betas=(0.9, 0.95), eps=1e-6, fused=True,
    )  # fmt: skip
    for step in range(NUM_STEPS):
        for name, drawn in gradients(model, step).items():
            sizes = rows(name, drawn)
            for part, gradient in zip(parts[name], drawn.split(sizes), strict=True):
                part.grad = gradient.clone()
        muon.step()
        adamw.step()
    return {name: torch.cat(pieces).detach() for name, pieces in parts.items()}


def rows(name: str, weight: Tensor) -> list[int]:
    return next((sizes for end, sizes in PARTS.items() if name.endswith(end)), [len(weight)])


def is_matrix(name: str, parts: Mapping[str, list[Tensor]]) -> bool:
    return "blocks." in name and parts[name][0].dim() == 2


def test_steps_are_those_of_torch() -> None:
    model = tiny_model("llama-tiny")
    expected = theirs(model)

    take_steps(model, build(model), *range(NUM_STEPS))

    assert all(torch.equal(weight, expected[name]) for name, weight in model.named_parameters())


def test_update_of_a_part_is_nearly_orthogonal() -> None:
    """Newton-Schulz leaves singular values within 0.5 to 1.5 of the update's size."""
    model = tiny_model("llama-tiny")
    q_weight = model.transformer.blocks[0].attention.qkv.weight
    before = q_weight.detach().clone()
    optimizer = build_optimizer(model, SETTINGS.changed(weight_decay=0.0))

    take_steps(model, optimizer, 0)

    k_update = (before - q_weight.detach())[32:48] / (0.02 * 0.2 * 32**0.5)
    assert ((torch.linalg.svdvals(k_update) - 1.0).abs() < 0.5).all()


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("bert-base", SequenceClassifier, {"qkv": [32] * 3, "out": [32], "up": [48], "down": [32]}),
        (
            "t5-v1.1-small",
            Seq2SeqLM,
            {"qkv": [32] * 3, "out": [32], "up": [48, 48], "down": [32], "q": [32], "kv": [32, 32]},
        ),
    ],
    ids=["classifier", "encoder-decoder"],
)
def test_matrices_of_blocks_alone_are_taken(
    name: str, head: type[Model], expected: dict[str, list[int]]
) -> None:
    labels: dict[str, Any] = {"labels": ("a", "b")} if head is SequenceClassifier else {}
    model = head(tiny_config(name, **labels))

    found = hidden_matrices(model)

    assert {path.split(".")[-2]: rows for path, rows in found.items()} == expected
    assert set(found) == {
        path for path, weight in model.named_parameters() if "blocks." in path and weight.dim() == 2
    }


def test_state_is_by_weight_and_loads() -> None:
    model, copy = tiny_model("llama-tiny"), tiny_model("llama-tiny")
    optimizer, restored = build(model), build(copy)
    take_steps(model, optimizer, 0, 1)
    copy.load_state_dict(model.state_dict())

    restored.load_state_dict(deepcopy(optimizer.state_dict()))
    take_steps(model, optimizer, 2)
    take_steps(copy, restored, 2)

    qkv = model.transformer.blocks[0].attention.qkv.weight
    assert {key: value.shape for key, value in optimizer.state[qkv].items()} == {
        "momentum_buffer": qkv.shape
    }
    assert all(map(torch.equal, model.parameters(), copy.parameters()))


def test_rates_that_are_set_are_taken() -> None:
    model = tiny_model()
    optimizer = build(model)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    for group in optimizer.param_groups:
        group["lr"] = 0.0
    take_steps(model, optimizer, 0)

    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())


def test_weight_without_gradient_stays() -> None:
    model = tiny_model()
    optimizer = build(model)
    qkv = model.transformer.blocks[0].attention.qkv.weight
    before = qkv.detach().clone()
    take_steps(model, optimizer, 0)
    after = qkv.detach().clone()

    qkv.grad = None
    optimizer.step()

    assert not torch.equal(before, after)
    assert torch.equal(after, qkv)


def test_frozen_blocks_are_refused() -> None:
    model = tiny_model()
    model.transformer.blocks.requires_grad_(False)

    with pytest.raises(ValueError, match="no matrix of the model's blocks is trainable; expected"):
        build(model)


def test_all_but_matrices_may_be_frozen() -> None:
    model = tiny_model()
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.endswith("mlp.up.weight"))
    up = model.transformer.blocks[1].mlp.up.weight
    before = up.detach().clone()

    take_steps(model, build(model), 0)

    assert not torch.equal(before, up)


def test_slow_products_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("weldlm.optim.has_fast_bfloat16", lambda _device: False)

    build(tiny_model())

    assert "this cpu has no bf16 instructions, but muon multiplies matrices in" in caplog.text
