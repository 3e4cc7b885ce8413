"""Values of options that are more than a word or a number, as `type` of an option takes them."""

import re

import click

__all__ = ["as_bias", "as_bytes", "as_ids"]

_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}  # of 2


def as_bytes(text: str) -> int:
    """A number of bytes, such as 500M or 2GiB; units are powers of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise click.BadParameter(f"{text!a} is no number of bytes; expected such as 500M or 2GiB")
    return int(float(found[1]) * (1 << _POWERS[found[2]]))


def as_ids(text: str) -> tuple[int, ...]:
    """Ids with commas between them."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"{text!a} are no ids; expected such as 5,7,11")
    return tuple(map(int, parts))


def as_bias(text: str) -> tuple[int, float]:
    """An id and what is added to its score."""
    found = re.fullmatch(r"(\d+)=([-+.\w]+)", text)
    try:
        if found is not None:
            return int(found[1]), float(found[2])
    except ValueError:
        pass
    raise click.BadParameter(f"{text!a} is no bias; expected an id and a number, such as 50=-2.5")
