"""The scale of float16 losses follows torch.amp.GradScaler."""

import random

import pytest
import torch

from weldlm.loss_scale import LossScale


@pytest.mark.parametrize("overflow_share", [0.0, 0.001, 0.02])
def test_scale_is_that_of_grad_scaler(overflow_share: float) -> None:
    draw = random.Random(1)
    theirs, ours = torch.amp.GradScaler("cpu"), LossScale()
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    theirs.scale(torch.ones(()))  # makes its tensors
    found, expected = [], []

    for _ in range(4500):
        is_finite = draw.random() >= overflow_share
        weight.grad = torch.tensor(1.0 if is_finite else torch.inf)
        theirs.unscale_(optimizer)
        theirs.update()
        ours = ours.after(is_finite=is_finite)
        found.append(ours.value)
        expected.append(theirs.get_scale())

    assert found == expected


def test_scale_of_one_is_no_cause_of_an_overflow() -> None:
    assert LossScale(2.0).can_fall
    assert not LossScale(1.0).can_fall
