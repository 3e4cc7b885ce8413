"""The parameters of a forward, one of which versions of transformers name differently."""

from inspect import signature
from typing import Any

from torch import nn

__all__ = ["CACHE_NAMES", "given_cache", "parameter_names", "with_newest_names"]

# of the cache of keys and values: since transformers 5.24, and before
CACHE_NAMES = ("cache", "past_key_values")


def parameter_names(module: nn.Module) -> tuple[str, ...]:
    """The parameters of the forward of its class, as the installed version names them."""
    return tuple(signature(type(module).forward).parameters)[1:]


def with_newest_names(names: tuple[str, ...]) -> tuple[str, ...]:
    newest, *older = CACHE_NAMES
    return tuple(newest if name in older else name for name in names)


def given_cache(call: dict[str, Any]) -> Any:
    """The cache among the arguments of a call; None where none is given.

    Both names are looked for: the newer versions take the old name, too.
    """
    given = [call[name] for name in CACHE_NAMES if call.get(name) is not None]
    return given[0] if given else None
