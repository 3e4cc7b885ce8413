from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from weldlm.config import preset
from weldlm.generation import BatchLimits
from weldlm.sampling import SamplingSettings
from weldlm.train_settings import TrainSettings


@pytest.mark.parametrize(
    ("build", "name", "value"),
    [
        (TrainSettings, "steps", 1.5),
        (lambda **fields: TrainSettings(steps=1, **fields), "rows_per_step", 2.0),
        (lambda **fields: TrainSettings(steps=1, **fields), "rows_per_step", None),
        (lambda **fields: TrainSettings(steps=1, **fields), "eval_every", "2"),
        (SamplingSettings, "max_tokens", 1.5),
        (SamplingSettings, "top_k", "5"),
        (BatchLimits, "batch_size", 1.5),
        (lambda **fields: preset("gpt2-tiny", **fields), "num_layers", 2.5),
    ],
    ids=str,
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
