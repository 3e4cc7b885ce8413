"""Settings that cannot work are refused by name."""

import dataclasses
import json
from typing import Any

import pytest

from weldlm.train_settings import TrainSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"rows_per_step": 0}, "rows_per_step is 0; expected at least 1"),
        ({"micro_batch_rows": -1}, "micro_batch_rows is -1; expected at least 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0; expected at least 1"),
        ({"row_length": 1}, "row_length is 1; expected at least 2"),
        ({"lr": 0.0}, "lr is 0.0; expected a finite number above 0"),
        ({"lr": float("nan")}, "lr is nan; expected a finite number above 0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0; expected a finite number above 0"),
        ({"minutes": -1.0}, "minutes is -1.0; expected a finite number above 0"),
        ({"minutes": 1e308}, r"minutes is 1e\+308; expected at most 527040, a year; give fewer"),
        ({"minutes": float("inf")}, "minutes is inf; expected a finite number above 0"),
        ({"minutes": float("nan")}, "minutes is nan; expected a finite number above 0"),
        ({"min_lr_fraction": 1.5}, "min_lr_fraction is 1.5; expected 0 to 1"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\] is 1.0; expected at least 0 and below 1"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; expected one of adamw, muon, adafactor"),
        ({"schedule": "step"}, "schedule is 'step'; expected one of cosine, linear, wsd, inverse"),
        ({"decay_fraction": 0.0}, "decay_fraction is 0.0; expected above 0 and at most 1"),
        ({"decay_fraction": float("nan")}, "decay_fraction is nan; expected above 0 and"),
        ({"ema_decay": 0.0}, "ema_decay is 0.0; expected above 0 and at most 1"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5; expected above 0 and at most 1"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; expected at least 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1; expected at least 0"),
        ({"warmup_steps": 11}, "warmup_steps is 11; expected at most steps, 10"),
        (
            {"dtype": "float8"},
            "dtype is 'float8'; expected one of auto, float32, bfloat16, float16",
        ),
        (
            {"on_not_finite": "ignore"},
            "on_not_finite is 'ignore'; expected one of stop, skip, roll",
        ),
        ({"spike_ratio": 1.0}, "spike_ratio is 1.0; expected more than 1"),
        ({"seed": -1}, "seed is -1; expected 0 to"),
        ({"minutes": 1.0, "epochs": 1.0}, "epochs and minutes are both given"),
        ({"best_is": "best"}, "best_is is 'best'; expected one of lowest, highest"),
        ({"state_dict_type": "local"}, "state_dict_type is 'local'; expected one of full, sharded"),
        ({"async_save": True}, "async_save is set with state_dict_type full; expected sharded"),
        ({"steps": None}, "none of steps, epochs and minutes is given"),
    ],
    ids=str,
)
def test_bad_setting_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainSettings(**{"steps": 10, **changes})


def test_settings_survive_json() -> None:
    settings = TrainSettings(minutes=2.5, betas=(0.8, 0.97), clip_norm=None, dtype="bfloat16")

    text = json.dumps(dataclasses.asdict(settings))

    assert TrainSettings.from_json(json.loads(text)) == settings


def test_patience_needs_something_to_wait_for() -> None:
    with pytest.raises(ValueError, match="patience is given without best_metric"):
        TrainSettings(steps=1, patience=2)
