"""What a run does with a step whose loss or gradient must not count."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny_runs import RUN, contents, metrics, tiny_shards, tiny_trainer
from weldlm import training_loop
from weldlm.data.plan import PackingPlan
from weldlm.train_settings import TrainSettings
from weldlm.trouble import find_trouble

SHORT = RUN.changed(steps=8, warmup_steps=2, eval_every=None, save_every=3)
SETTINGS = TrainSettings(steps=1, on_spike="skip", spike_ratio=2.0)


@pytest.mark.parametrize(
    ("loss", "grad_norm", "before", "expected"),
    [
        (1.0, 1.0, [1.0] * 8, None),
        (math.nan, 1.0, [], "the loss is nan and the gradient norm 1.0"),
        (1.0, math.inf, [], "the loss is 1.0 and the gradient norm inf"),
        (2.1, 1.0, [1.0] * 8, "the loss leaps to 2.1000 from 1.0000"),
        (2.0, 1.0, [1.0] * 8, None),
        (9.0, 1.0, [1.0] * 7, None),  # too little is known
    ],
    ids=["fine", "nan loss", "infinite gradient", "leap", "no leap yet", "first steps"],
)
def test_trouble_is_named(
    loss: float, grad_norm: float, before: list[float], expected: str | None
) -> None:
    trouble = find_trouble(5, loss, grad_norm, before, SETTINGS)

    assert (trouble and trouble.what) == expected


@pytest.fixture
def poisoned_steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, set[int]], None]:
    """Makes the gradient of chosen rows NaN, whenever they are learned from."""
    original = training_loop.accumulate_gradients

    def poison(folder: Path, steps: set[int]) -> None:
        plan = PackingPlan(tiny_shards(folder / "data"), row_length=16, seed=0)
        bad = [plan.samples(3 * step, 3)[1].tolist() for step in steps]

        def accumulate(model: Any, batches: Any, **options: Any) -> torch.Tensor:
            loss = original(model, batches, **options)
            if batches[0].sample_ids.tolist() in bad:
                next(model.parameters()).grad.fill_(math.nan)
            return loss

        monkeypatch.setattr(training_loop, "accumulate_gradients", accumulate)

    return poison


def test_skipped_step_changes_no_weight_and_is_noted(
    tmp_path: Path, poisoned_steps: Callable[[Path, set[int]], None]
) -> None:
    poisoned_steps(tmp_path, {4})
    trainer = tiny_trainer(tmp_path, settings=SHORT.changed(on_not_finite="skip"))

    result = trainer.fit()

    plan = PackingPlan(tiny_shards(tmp_path / "data"), row_length=16, seed=0)
    row = json.loads((tmp_path / "out" / "troubles.jsonl").read_text())
    assert result.step == 8
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())
    assert [line["step"] for line in metrics(tmp_path / "out") if "loss" in line] == [
        1, 2, 3, 4, 6, 7, 8,
    ]  # fmt: skip
    assert row["step"] == 5
    assert row["sample_ids"] == [plan.samples(12, 3)[1].tolist()]


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "muon", "ema_decay": 0.9}], ids=["adamw", "muon and average"]
)
def test_rolling_back_equals_skipping_the_step(
    tmp_path: Path,
    poisoned_steps: Callable[[Path, set[int]], None],
    changes: dict[str, Any],
) -> None:
    poisoned_steps(tmp_path / "a", {4})
    skipping = SHORT.changed(on_not_finite="skip", **changes)

    skipped = tiny_trainer(tmp_path / "a", settings=skipping).fit()
    rolled = tiny_trainer(
        tmp_path / "b", settings=skipping.changed(on_not_finite="roll_back")
    ).fit()

    assert contents(rolled.checkpoint) == contents(skipped.checkpoint)
    assert metrics(tmp_path / "b" / "out") == metrics(tmp_path / "a" / "out")


def test_trouble_that_does_not_end_stops_the_run(
    tmp_path: Path, poisoned_steps: Callable[[Path, set[int]], None]
) -> None:
    poisoned_steps(tmp_path, set(range(1, 14)))
    settings = RUN.changed(on_not_finite="skip")

    with pytest.raises(FloatingPointError, match=r"step 12: the loss is .* its rows: .*/troubles"):
        tiny_trainer(tmp_path, settings=settings).fit()


def test_skipped_steps_survive_a_resume(
    tmp_path: Path, poisoned_steps: Callable[[Path, set[int]], None]
) -> None:
    poisoned_steps(tmp_path, {1})
    skipping = SHORT.changed(on_not_finite="skip")
    tiny_trainer(tmp_path, settings=skipping).fit()

    state = json.loads((tmp_path / "out/checkpoint-8/state/run.json").read_text())

    assert state["skipped"] == [1]
    assert len(state["recent_losses"]) == 7


def test_run_that_the_disk_cannot_hold_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer(tmp_path)
    monkeypatch.setattr("weldlm.disk_space.shutil.disk_usage", lambda _path: FULL)

    with pytest.raises(OSError, match=r"a run that keeps 2 checkpoints takes \d+ MiB; expected at"):
        trainer.fit()

    assert not list((tmp_path / "out").glob("checkpoint-*"))


class FULL:
    free = 1000
