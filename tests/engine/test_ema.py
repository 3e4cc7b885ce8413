"""The average of weights: its values by hand, and where the model has it."""

import pytest
import torch
from torch import nn

from tests.engine.tiny_models import tiny_model
from weldlm.ema import Ema


def one_weight(dtype: torch.dtype = torch.float32) -> nn.Linear:
    return nn.Linear(1, 1, bias=False, dtype=dtype)


def set_weight(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_average_is_that_of_the_formula() -> None:
    model = one_weight()
    set_weight(model, 3.0)
    ema, expected = Ema(model, 0.25), 3.0

    for value, decay in [(5.0, 2 / 11), (-1.0, 3 / 12), (2.0, 0.25), (4.0, 0.25)]:
        set_weight(model, value)
        ema.update()
        expected = decay * expected + (1 - decay) * value

    assert ema.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert ema.state_dict()["num_updates"] == 4


def test_average_of_bf16_weights_is_in_fp32() -> None:
    """An update of a 2000th of the difference would vanish in bf16."""
    model = one_weight(torch.bfloat16)
    set_weight(model, 1.0)
    ema = Ema(model, 0.9995)
    ema.num_updates = 10**6

    set_weight(model, 2.0)
    ema.update()

    assert ema.state_dict()["weight"].item() == pytest.approx(1.0005, rel=1e-6)
    with ema.applied():
        assert model.weight.dtype == torch.bfloat16


def test_averages_are_applied_inside_alone() -> None:
    model = tiny_model()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    ema = Ema(model, 0.9)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)

    with ema.applied():
        inside = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    after = dict(model.named_parameters())
    assert all(torch.equal(inside[name], before[name]) for name in before)
    assert all(torch.equal(after[name], 2 * before[name]) for name in before)


def test_weights_return_after_an_error() -> None:
    model = one_weight()
    set_weight(model, 1.0)
    ema = Ema(model, 0.9)
    set_weight(model, 2.0)

    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        raise RuntimeError("inside")

    assert model.weight.item() == 2.0


def test_frozen_weights_are_left_out() -> None:
    model = tiny_model()
    model.transformer.embedding.requires_grad_(False)

    names = Ema(model, 0.9).state_dict().keys() - {"num_updates"}

    assert names == {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_restored_average_goes_on_with_the_same_bits() -> None:
    models = [tiny_model(), tiny_model()]
    first, second = (Ema(model, 0.9) for model in models)

    for step in range(4):
        with torch.no_grad():
            for model in models:
                next(model.parameters()).add_(0.1)
        first.update()
        if step == 1:
            second.load_state_dict(first.state_dict())
        elif step > 1:
            second.update()

    found, expected = second.state_dict(), first.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_averages_of_other_weights_are_refused() -> None:
    ema = Ema(one_weight(), 0.9)

    with pytest.raises(ValueError, match="averages given are of other weights: bias is in one of"):
        ema.load_state_dict(Ema(nn.Linear(1, 1), 0.9).state_dict())
