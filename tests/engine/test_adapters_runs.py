"""Runs that train adapters: resumed bit for bit, with PEFT folders in their checkpoints."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.engine.tiny_models import tiny_model
from tests.engine.tiny_runs import RUN, tiny_shards
from weldlm.adapters import (
    LoraSettings,
    add_lora,
    load_adapter,
    quantize_base,
    remove_adapters,
    trainable_state,
)
from weldlm.heads import CausalLM
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer

SHORT = dataclasses.replace(RUN, steps=4, save_every=2)
AVERAGED = dataclasses.replace(SHORT, ema_decay=0.9)


def adapted(bits: int | None) -> CausalLM:
    """A model with two adapters, of which the second is trained."""
    return adapt(tiny_model(), bits)


def adapt(model: CausalLM, bits: int | None) -> CausalLM:
    if bits is not None:
        quantize_base(model, bits=bits)
    add_lora(model, LoraSettings(rank=2, dropout=0.2), "first")
    add_lora(model, LoraSettings(rank=2, dropout=0.2, targets=("all",)), "second")
    return model


def trainer(model: CausalLM, folder: Path, settings: TrainSettings = SHORT) -> Trainer:
    return Trainer(model, tiny_shards(folder / "data"), settings, folder / "out")


@pytest.mark.parametrize(
    ("bits", "settings"),
    [
        pytest.param(None, SHORT, id="fp32"),
        pytest.param(8, SHORT, id="int8"),
        pytest.param(None, AVERAGED, id="averaged"),
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(
    bits: int | None, settings: TrainSettings, tmp_path: Path
) -> None:
    whole, resumed, loaded = adapted(bits), adapted(bits), tiny_model()
    start = trainable_state(whole)
    trainer(whole, tmp_path, settings).fit()
    (tmp_path / "out" / "checkpoint-4").rename(tmp_path / "kept")

    trainer(resumed, tmp_path, settings).fit(resume=True)
    load_adapter(loaded, tmp_path / "kept" / "adapters" / "second", "second", is_trainable=True)

    expected = trainable_state(whole)
    assert not any(torch.equal(expected[name], start[name]) for name in start)
    for state in (trainable_state(resumed), trainable_state(loaded)):
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("bits", [None, 8], ids=["fp32", "int8"])
def test_another_base_is_refused(bits: int | None, tmp_path: Path) -> None:
    trainer(adapted(bits), tmp_path).fit()
    model = tiny_model()
    with torch.no_grad():
        model.transformer.blocks[1].mlp.up.weight[0, 0] += 0.5

    with pytest.raises(ValueError, match="checkpoint-4 has adapters to frozen weights with finger"):
        trainer(adapt(model, bits), tmp_path).fit(resume=True)


def test_checkpoint_of_adapters_asks_for_them(tmp_path: Path) -> None:
    model = adapted(None)
    trainer(model, tmp_path).fit()
    remove_adapters(model)
    model.requires_grad_(True)

    with pytest.raises(ValueError, match=r"checkpoint-4 is of a model with adapters"):
        trainer(model, tmp_path).fit(resume=True)
