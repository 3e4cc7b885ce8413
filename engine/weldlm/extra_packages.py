"""Packages of the extras: imported where they are used, and named where they are missing."""

from importlib import import_module
from types import ModuleType

__all__ = ["require_extra"]


def require_extra(module: str, extra: str, what: str) -> ModuleType:
    """Imports a module of an extra.

    Args:
        module: to import.
        extra: of this package that brings it.
        what: begins the message, such as the name of an option.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{what} needs the package {error.name or module}, which is not installed; run: "
            f'pip install "weldlm[{extra}]"',
            name=error.name,
        ) from error
