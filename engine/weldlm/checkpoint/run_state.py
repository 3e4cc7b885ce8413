"""RunState: where a run stands and what it is a run of, and whether two are of one run."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weldlm.config import ModelConfig
from weldlm.loss_scale import LossScale
from weldlm.train_settings import FREE_TO_CHANGE, TrainSettings

__all__ = ["Best", "RunState", "check_same_run", "config_values"]


@dataclass(frozen=True, slots=True)
class Best:
    """A validation."""

    step: int  # after which it was made
    value: float  # of the settings' best_metric


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands, and what it is a run of."""

    step: int  # optimizer steps done
    elapsed: float  # seconds of training so far
    evaluated_step: int  # the last step after which a validation was completed; 0 where none was
    settings: TrainSettings  # as resolved
    config: dict[str, Any]  # of the model
    data_fingerprint: str
    objective: str  # what is asked of the data
    tokens: int = 0  # learned from so far
    best: "Best | None" = None  # validation so far, where the settings name a best_metric
    num_worse: int = 0  # validations since
    recent_losses: tuple[float, ...] = ()  # of the last steps
    num_updates: int = 0  # steps that changed the weights
    loss_scale: LossScale | None = None  # of the next step, in float16
    skipped: tuple[int, ...] = ()  # steps, counted from 0, from which nothing is learned
    base_fingerprint: str | None = None  # of frozen weights that checkpoints of adapters lack

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunState":
        values = json.loads(text)
        best = None if values["best"] is None else Best(**values["best"])
        scale = None if values["loss_scale"] is None else LossScale(**values["loss_scale"])
        settings = TrainSettings.from_json(values["settings"])
        lists = {name: tuple(values[name]) for name in ("recent_losses", "skipped")}
        return cls(**{**values, **lists, "settings": settings, "best": best, "loss_scale": scale})


def config_values(config: ModelConfig) -> dict[str, Any]:
    """The fields of a model's configuration as JSON gives them back."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config))))


def check_same_run(saved: RunState, now: RunState, *, where: Path) -> None:
    """Refuses to go on with another model, other data, or settings that change the result.

    Raises:
        ValueError: names the first field that differs.
    """
    if saved.data_fingerprint != now.data_fingerprint:
        raise ValueError(
            f"{where} was trained on data with fingerprint {saved.data_fingerprint[:12]}, but the "
            f"data given has {now.data_fingerprint[:12]}; give the same data or another out folder"
        )
    if saved.objective != now.objective:
        raise ValueError(
            f"{where} was trained with the objective {saved.objective}, but {now.objective} is "
            "given; give the same or another out folder"
        )
    bases = (saved.base_fingerprint, now.base_fingerprint)
    if None not in bases and saved.base_fingerprint != now.base_fingerprint:
        raise ValueError(
            f"{where} has adapters to frozen weights with fingerprint {bases[0]:.12}, but those "
            f"given have {bases[1]:.12}; load the same base model, or give another out folder"
        )
    _check_fields("the model's ", saved.config, now.config, where)
    settings = [
        {key: value for key, value in _fields(state).items() if key not in FREE_TO_CHANGE}
        for state in (saved, now)
    ]
    _check_fields("", settings[0], settings[1], where)


def _check_fields(what: str, saved: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    for name in sorted(saved.keys() | now.keys()):
        if saved.get(name) != now.get(name):
            raise ValueError(
                f"{where} was trained with {what}{name} = {saved.get(name)}, but {now.get(name)} "
                f"is given; give the same {name} or another out folder"
            )


def _fields(state: RunState) -> dict[str, Any]:
    return dataclasses.asdict(state.settings)
