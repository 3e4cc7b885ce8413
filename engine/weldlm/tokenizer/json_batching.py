"""tokenizer.json: truncation and padding, which here are defaults of a batch, not of `encode`."""

from typing import Any

from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.parts import Padding, Truncation

__all__ = ["read_padding", "read_truncation", "write_padding", "write_truncation"]

_TRUNCATION: Understood = {
    "direction": ("Left", "Right", None),
    "max_length": (ANY,),
    "strategy": ("LongestFirst", "OnlyFirst", "OnlySecond"),
    "stride": (ANY,),
}
_PADDING: Understood = {
    "strategy": (ANY,),
    "direction": ("Left", "Right"),
    "pad_to_multiple_of": (ANY, None),
    "pad_id": (ANY,),
    "pad_type_id": (ANY,),
    "pad_token": (ANY,),
}
_STRATEGIES = {
    "LongestFirst": "longest_first",
    "OnlyFirst": "only_first",
    "OnlySecond": "only_second",
}


def read_truncation(section: object) -> Truncation | None:
    """Reads the section truncation.

    Raises:
        ValueError: it is damaged.
    """
    if section is None:
        return None
    fields = checked("truncation", section, _TRUNCATION)
    return Truncation(
        max_length=_count("truncation", "max_length", fields["max_length"]),
        stride=_count("truncation", "stride", fields["stride"]),
        strategy=_STRATEGIES[fields["strategy"]],  # type: ignore[arg-type]  # the table's values
        side="left" if fields["direction"] == "Left" else "right",
    )


def read_padding(section: object) -> Padding | None:
    """Reads the section padding.

    Raises:
        ValueError: it is damaged.
    """
    if section is None:
        return None
    fields = checked("padding", section, _PADDING)
    match fields["strategy"]:
        case "BatchLongest":
            length = None
        case {"Fixed": int(length)} if length >= 0:
            pass
        case other:
            raise ValueError(
                f"padding has 'strategy' = {brief(other)}, expected \"BatchLongest\" or "
                '{"Fixed": length}'
            )
    if not isinstance(fields["pad_token"], str):
        raise ValueError(f"padding has 'pad_token' = {brief(fields['pad_token'])}")
    multiple = fields["pad_to_multiple_of"]
    return Padding(
        pad_id=_count("padding", "pad_id", fields["pad_id"]),
        pad_type_id=_count("padding", "pad_type_id", fields["pad_type_id"]),
        pad_token=fields["pad_token"],
        side="left" if fields["direction"] == "Left" else "right",
        length=length,
        multiple_of=None if multiple is None else _count("padding", "pad_to_multiple_of", multiple),
    )


def write_truncation(truncation: Truncation | None) -> dict[str, Any] | None:
    """The section truncation."""
    if truncation is None:
        return None
    names = {ours: theirs for theirs, ours in _STRATEGIES.items()}
    return {
        "direction": truncation.side.capitalize(),
        "max_length": truncation.max_length,
        "strategy": names[truncation.strategy],
        "stride": truncation.stride,
    }


def write_padding(padding: Padding | None) -> dict[str, Any] | None:
    """The section padding."""
    if padding is None:
        return None
    return {
        "strategy": "BatchLongest" if padding.length is None else {"Fixed": padding.length},
        "direction": padding.side.capitalize(),
        "pad_to_multiple_of": padding.multiple_of,
        "pad_id": padding.pad_id,
        "pad_type_id": padding.pad_type_id,
        "pad_token": padding.pad_token,
    }


def _count(section: str, field: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{section} has {field!r} = {brief(value)}, expected an integer from 0 on")
    return value
