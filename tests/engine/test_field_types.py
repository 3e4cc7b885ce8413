from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from weldlm.config import ModelConfig, preset
from weldlm.generation import BatchLimits
from weldlm.sampling import SamplingSettings
from weldlm.train_settings import TrainSettings


def training(**fields: Any) -> TrainSettings:
    return TrainSettings(**{"steps": 1} | fields)


def tiny_gpt(**fields: Any) -> ModelConfig:
    return preset("gpt2-tiny", **fields)


@pytest.mark.parametrize(
    ("build", "name", "value"),
    [
        (training, "steps", 1.5),
        (training, "rows_per_step", 2.0),
        (training, "rows_per_step", None),
        (training, "eval_every", "2"),
        (SamplingSettings, "max_tokens", 1.5),
        (SamplingSettings, "top_k", "5"),
        (BatchLimits, "batch_size", 1.5),
        (tiny_gpt, "num_layers", 2.5),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_what_is_no_integer_is_refused_by_name(
    build: Callable[..., Any], name: str, value: object
) -> None:
    with pytest.raises(TypeError, match=rf"^{name} is {value!r}; expected an integer"):
        build(**{name: value})


def test_integers_of_numpy_are_integers() -> None:
    assert TrainSettings(steps=np.int64(3)).steps == 3


def test_a_field_that_may_be_none_may_be_none() -> None:
    assert TrainSettings(steps=None, minutes=1.0).steps is None
