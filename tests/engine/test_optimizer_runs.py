"""Runs of the Trainer with every optimizer and what belongs to it."""

from pathlib import Path

import pytest

from tests.engine.tiny_runs import RUN, tiny_trainer
from weldlm.optim import lr_factors

SETTINGS = RUN.changed(steps=8, eval_every=None, save_every=8, warmup_steps=2)


def test_rates_of_layers_reach_the_weights(tmp_path: Path) -> None:
    """AdamW's first step moves every weight by its learning rate, where nothing decays."""
    trainer = tiny_trainer(
        tmp_path,
        settings=SETTINGS.changed(steps=1, warmup_steps=0, layer_decay=0.5, weight_decay=0.0),
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}

    trainer.fit()

    moved = {
        name: float((weight.detach() - before[name]).abs().max())
        for name, weight in trainer.model.named_parameters()
    }
    expected = {
        name: SETTINGS.lr * factor for name, factor in lr_factors(trainer.model, 0.5).items()
    }
    # of a gradient g the step is lr * g / (|g| + eps), and g is far above eps somewhere
    assert moved == pytest.approx(expected, rel=1e-3)
