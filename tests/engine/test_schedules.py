"""The learning rate of every schedule, against its formula worked out by hand."""

import math
from itertools import pairwise
from typing import Any, get_args

import pytest

from weldlm.schedules import learning_rate
from weldlm.train_settings import Schedule, TrainSettings

# the rise ends at step 20, the last step is 100
SETTINGS = TrainSettings(
    steps=101, warmup_steps=20, lr=0.5, min_lr_fraction=0.2, decay_fraction=0.25
)
SCHEDULES = get_args(Schedule)


def rates(**changes: Any) -> list[float]:
    settings = SETTINGS.changed(**changes)
    assert settings.steps is not None
    return [learning_rate(step, settings) for step in range(settings.steps)]


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("cosine", 40, 0.1 + 0.4 * (1 + math.sqrt(0.5)) / 2),
        ("cosine", 60, 0.3),
        ("cosine", 100, 0.1),
        ("linear", 40, 0.4),
        ("linear", 60, 0.3),
        ("linear", 100, 0.1),
        ("wsd", 40, 0.5),
        ("wsd", 75, 0.5),  # 25 of 101 steps decay
        ("wsd", 80, 0.5 - 0.4 * 5 / 25),
        ("wsd", 100, 0.1),
        ("inverse_sqrt", 41, 0.5 * math.sqrt(0.5)),
        ("inverse_sqrt", 83, 0.25),
        ("inverse_sqrt", 524, 0.1),
        ("inverse_sqrt", 1000, 0.1),
        ("constant", 100, 0.5),
    ],
)
def test_rate_is_that_of_the_formula(schedule: Schedule, step: int, expected: float) -> None:
    rate = learning_rate(step, SETTINGS.changed(schedule=schedule))

    assert rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_rise_alike(schedule: Schedule) -> None:
    expected = [0.5 * (step + 1) / 21 for step in range(21)]

    assert rates(schedule=schedule)[:21] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nothing_jumps(schedule: Schedule) -> None:
    """The largest change of a step is at most the slope of the formula there, times lr."""
    slopes = {
        "cosine": 0.8 * math.pi / 2 / 80,
        "linear": 0.8 / 80,
        "wsd": 0.8 / 25,
        "inverse_sqrt": 0.5 / 21,
        "constant": 0.0,
    }
    found = rates(schedule=schedule)

    falls = [before - after for before, after in pairwise(found[20:])]

    assert min(falls) >= 0
    assert max(falls) <= 0.5 * slopes[schedule] + 1e-12


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_the_end_has_its_share(schedule: Schedule) -> None:
    beyond = learning_rate(1000, SETTINGS.changed(schedule=schedule))

    assert beyond == rates(schedule=schedule)[-1] == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"steps": 1, "warmup_steps": 0}, [0.5]),
        ({"steps": 3, "warmup_steps": 0, "decay_fraction": 1e-9}, [0.5, 0.5, 0.1]),
        ({"steps": 3, "warmup_steps": 0, "decay_fraction": 1.0}, [0.5, 0.3, 0.1]),
        ({"steps": 4, "warmup_steps": 3, "decay_fraction": 1.0}, [0.125, 0.25, 0.375, 0.5]),
    ],
    ids=["one step", "one step of decay", "decay from the start", "no room for the decay"],
)
def test_shortest_wsd(changes: dict[str, Any], expected: list[float]) -> None:
    assert rates(schedule="wsd", **changes) == pytest.approx(expected, rel=1e-12)
