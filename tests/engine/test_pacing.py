"""A budget of minutes becomes a number of steps once, and changes nothing else."""

import signal
from itertools import count
from pathlib import Path

import pytest
import torch

from tests.engine.tiny_runs import RUN, tiny_shards, tiny_trainer
from weldlm.callbacks import Callback, StepReport
from weldlm.distributed import Ranks, build_replica
from weldlm.objectives import CausalLMObjective
from weldlm.pacing import count_affordable_steps
from weldlm.train_settings import TrainSettings
from weldlm.training_data import TokenRows

SETTINGS = RUN.changed(steps=None, minutes=2.0, dtype="float32", eval_every=None)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by one second whenever it is read."""
    clock = count()
    monkeypatch.setattr("weldlm.pacing.time.perf_counter", lambda: float(next(clock)))


def rows(tmp_path: Path, settings: TrainSettings) -> TokenRows:
    return TokenRows(tiny_shards(tmp_path / "data"), CausalLMObjective(), settings, 0)


class Interrupt(Callback):
    def on_step(self, _report: StepReport) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("seconds")
@pytest.mark.parametrize(
    ("minutes", "eval_every", "expected"),
    [
        (2.0, None, 108),  # 120 s - 11 s of measuring - 1 s of the last validation, 1 s a step
        (2.0, 4, 86),  # a quarter of a validation more for each step
        (0.2, None, 4),  # measuring ended after two steps
        (0.01, None, 1),  # nothing is left
    ],
    ids=["last validation only", "validations", "short", "too short"],
)
def test_steps_fill_the_minutes(
    tmp_path: Path, minutes: float, eval_every: int | None, expected: int
) -> None:
    replica = build_replica(tiny_trainer(tmp_path).model, Ranks(), SETTINGS)
    settings = SETTINGS.changed(minutes=minutes, eval_every=eval_every)
    data = rows(tmp_path, settings)

    assert count_affordable_steps(replica, data, data, settings) == expected


@pytest.mark.usefixtures("seconds")
@pytest.mark.parametrize(("minutes", "is_told"), [(0.2, True), (2.0, False)])
def test_too_few_steps_are_told(
    tmp_path: Path, minutes: float, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    replica = build_replica(tiny_trainer(tmp_path).model, Ranks(), SETTINGS)
    settings = SETTINGS.changed(minutes=minutes)
    data = rows(tmp_path, settings)

    count_affordable_steps(replica, data, data, settings)

    assert ("0.2 minutes leave time for 4 steps" in caplog.text) == is_told


def test_measuring_leaves_model_and_gradients_alone(tmp_path: Path) -> None:
    model = tiny_trainer(tmp_path).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    replica = build_replica(model, Ranks(), SETTINGS)
    count_affordable_steps(replica, rows(tmp_path, SETTINGS), None, SETTINGS)

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_resumed_run_keeps_its_number_of_steps(tmp_path: Path) -> None:
    settings = SETTINGS.changed(minutes=0.02)
    first = tiny_trainer(tmp_path, settings=settings, callbacks=[Interrupt()]).fit()

    second = tiny_trainer(
        tmp_path, settings=settings.changed(minutes=60.0), callbacks=[Interrupt()]
    )

    assert second.fit(resume=True).num_steps == first.num_steps


@pytest.mark.usefixtures("seconds")
def test_steps_cap_the_minutes(tmp_path: Path) -> None:
    settings = SETTINGS.changed(steps=3)

    assert tiny_trainer(tmp_path, settings=settings).fit().num_steps == 3
