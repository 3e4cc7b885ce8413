"""Fields of a request's body, each taken once and checked; what nobody took is refused."""

from collections.abc import Callable
from typing import Any, TypeVar

from weldlm.openai_api.errors import ApiError
from weldlm.text_file import require_whole_characters

__all__ = ["Fields", "as_flag", "as_ids", "as_integer", "as_number", "as_object", "as_text"]

T = TypeVar("T")

# they concern the books of whoever runs a server, never an answer
_OF_NO_EFFECT = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
)
# what else clients send, with the values that ask for nothing
_ONLY: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "prediction": (),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}


class Fields:
    """A body of which fields are taken; null is a field that was not given."""

    def __init__(self, body: Any) -> None:
        """Takes an object apart.

        Raises:
            ApiError: it is none.
        """
        if not isinstance(body, dict):
            raise ApiError(422, f"the body is {_show(body)}; expected a JSON object")
        self._left = {name: value for name, value in body.items() if value is not None}

    def take(self, name: str, read: Callable[[Any], T], expected: str) -> T | None:
        """Returns a field as `read` gives it, None where it is not given.

        Raises:
            ApiError: `read` refuses it with a TypeError or ValueError.
        """
        value = self._left.pop(name, None)
        if value is None:
            return None
        try:
            return read(value)
        except (TypeError, ValueError, OverflowError):
            message = f"{name} is {_show(value)}; expected {expected}"
            raise ApiError(422, message, param=name) from None

    def finish(self) -> None:
        """Refuses what was given and not taken.

        Raises:
            ApiError: names the first such field.
        """
        for name, value in self._left.items():
            if name in _OF_NO_EFFECT or value in _ONLY.get(name, ()):
                continue
            what = f"{name} is {_show(value)}" if name in _ONLY else f"the body sets {name[:40]!a}"
            message = f"{what}, which is not supported; leave it out"
            raise ApiError(422, message, param=name[:40])


def as_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def as_integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def as_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    require_whole_characters(value, "the text")
    return value


def as_ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(map(as_integer, value))


def as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _show(value: Any) -> str:
    text = f"{value!a}"
    return text if len(text) <= 60 else f"{text[:60]}... ({type(value).__name__})"
