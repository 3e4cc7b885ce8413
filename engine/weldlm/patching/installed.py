"""How a forward is replaced: on the instance, by an attribute that is taken away again.

The attribute is a `functools.partial` of a function of this package, so that copying and pickling
a model copy it too, bound to the copied module.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any

from torch import nn

__all__ = ["arguments_by_name", "has_own_forward", "install", "is_installed", "uninstall"]

_PACKAGE = __name__.rpartition(".")[0]


def install(module: nn.Module, forward: Callable[..., Any], settings: tuple[Any, ...]) -> None:
    """Makes `module(*args)` call `forward(module, *settings, *args)`."""
    replaced = partial(forward, module, *settings)
    # the parameters are what the Trainer of transformers chooses columns of a data set by;
    # annotations are left out, because not all of them can be pickled
    signature = inspect.signature(type(module).forward)
    _, *parameters = (
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    )
    replaced.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    module.forward = replaced


def arguments_by_name(
    module: nn.Module, names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a call of `module`, those by position too."""
    if args and args[0] is module:
        args = args[1:]  # accelerate binds a forward to its model again when it unwraps the model
    return dict(zip(names, args, strict=False)) | kwargs


def has_own_forward(module: nn.Module) -> bool:
    """Whether the instance has a forward besides that of its class."""
    return "forward" in vars(module)


def is_installed(module: nn.Module) -> bool:
    """Whether that forward is one of ours."""
    forward = vars(module).get("forward")
    return _is_ours(forward.__func__ if isinstance(forward, MethodType) else forward)


def uninstall(model: nn.Module) -> None:
    """Takes every forward of ours out of `model`, which may be a copy of the patched one.

    Raises:
        RuntimeError: somebody has wrapped one since.
    """
    for path, module in model.named_modules():
        if has_own_forward(module) and not is_installed(module) and _is_wrapped(module):
            raise RuntimeError(
                f"the replaced forward of {path or 'the model'} was wrapped since, by a "
                f"{type(vars(module)['forward']).__name__}; undo that first, then revert"
            )
    for module in model.modules():
        if is_installed(module):
            del module.forward


def _is_ours(function: Any) -> bool:
    return isinstance(function, partial) and function.func.__module__.startswith(f"{_PACKAGE}.")


def _is_wrapped(module: nn.Module) -> bool:
    """Whether one of our forwards is found behind what the instance has."""
    seen: list[Any] = [vars(module)["forward"]]
    for function in seen:  # grows while it is walked
        if _is_ours(function):
            return True
        seen.extend(_inner_functions(function, seen))
    return False


def _inner_functions(function: Any, seen: list[Any]) -> Iterator[Any]:
    cells = getattr(function, "__closure__", None) or ()
    values = [cell.cell_contents for cell in cells]
    values += [getattr(function, name, None) for name in ("__wrapped__", "__func__", "func")]
    values += [getattr(function, "model_forward", None)]  # accelerate's conversion of outputs
    for value in values:
        if callable(value) and not any(value is one for one in seen):
            yield value
