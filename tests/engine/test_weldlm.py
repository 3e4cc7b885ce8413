"""The public names of the package, as a user asks for them."""

import pkgutil

import weldlm
from tests.engine.tiny_models import tiny_model


def test_no_module_takes_the_place_of_a_public_name() -> None:
    # importing weldlm.x sets the attribute x of the package, whatever it was
    modules = {module.name for module in pkgutil.iter_modules(weldlm.__path__)}

    assert not modules & set(weldlm.__all__)


def test_generate_can_be_called_again() -> None:
    model, settings = tiny_model(), weldlm.SamplingSettings(max_tokens=4)

    first = weldlm.generate(model, None, [[1, 2, 3]], settings)
    second = weldlm.generate(model, None, [[1, 2, 3]], settings)

    assert second == first
