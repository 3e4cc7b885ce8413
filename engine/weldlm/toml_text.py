"""TOML of options: what `--config` reads, written so that a run can be made again."""

import json
from collections.abc import Mapping, Sequence

__all__ = ["to_toml"]

Value = str | bool | int | float | Sequence[str]


def to_toml(values: Mapping[str, Value | None]) -> str:
    """Returns a line for each value; what is None or empty is left out."""
    lines = [
        f"{name} = {_value(value)}\n" for name, value in values.items() if value not in (None, ())
    ]
    return "".join(lines)


def _value(value: Value | None) -> str:
    """As TOML has it, which writes texts, numbers and lists of texts as JSON does."""
    return json.dumps(value if isinstance(value, str | bool | int | float) else list(value or ()))
