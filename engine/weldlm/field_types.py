"""Checks what the types of a dataclass's fields promise, where a wrong value would pass unseen."""

import dataclasses
from numbers import Integral
from typing import Any

__all__ = ["require_integers"]


def require_integers(settings: Any) -> None:
    """Refuses a value that is no integer in a field of type `int` or `int | None`.

    A count of 1.5 would pass every comparison with a bound and end a loop nowhere.

    Raises:
        TypeError: names the first such field.
    """
    for field in dataclasses.fields(settings):
        if field.type not in (int, int | None):
            continue
        value = getattr(settings, field.name)
        if not isinstance(value, Integral) and (value is not None or field.type is int):
            raise TypeError(f"{field.name} is {value!r}; expected an integer; give one")
