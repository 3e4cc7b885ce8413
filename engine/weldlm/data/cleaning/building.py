"""The steps that settings ask for, in the order in which a text meets them."""

from collections.abc import Iterator
from functools import partial

from weldlm.data.cleaning.characters import normalize, remove_control_characters
from weldlm.data.cleaning.settings import CleanSettings
from weldlm.data.cleaning.steps import Step

__all__ = ["build_steps"]


def build_steps(settings: CleanSettings) -> list[Step]:
    """Returns the steps.

    Raises:
        ModuleNotFoundError: a step needs a package that is not installed.
    """
    return list(_steps(settings))


def _steps(settings: CleanSettings) -> Iterator[Step]:
    if not settings.control_characters:
        yield Step("control_characters", remove_control_characters)
    match settings.normalization:
        case "nfc":
            yield Step("normalization", partial(normalize, form="NFC"))
        case "nfkc":
            yield Step("normalization", partial(normalize, form="NFKC"))
