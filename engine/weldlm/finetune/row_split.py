"""Rows kept from learning: chosen by a hash of their content, the same share of every label.

Rows with the same content stay together, and the seed has no say: runs with other seeds are judged
on the same rows.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RowSplit", "split_rows"]

_FEWEST = 3  # contents: one to learn from, one to validate on, one to judge on


@dataclass(frozen=True, slots=True)
class RowSplit:
    """Rows by what they are for, each list in the order of the data."""

    train: list[Any]
    valid: list[Any]  # choose the best epoch
    heldout: list[Any]  # judge the result; no choice looks at them


def split_rows(
    rows: Sequence[Any],
    *,
    content: Callable[[Any], str],
    label: Callable[[Any], str],
    valid: float,
    heldout: float,
) -> RowSplit:
    """Splits rows.

    Args:
        rows: all of them.
        content: what rows that stay together have in common.
        label: each has the same share in all parts, as near as whole rows allow.
        valid: share of the contents to validate on.
        heldout: share of the contents to judge on; none where 0.

    Raises:
        ValueError: the rows have too few different contents.
    """
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(content(row), []).append(place)
    if len(groups) < _FEWEST:
        raise ValueError(
            f"the data holds {len(groups)} different rows; expected at least {_FEWEST}, to learn "
            "from, to choose the best epoch on and to judge on; give more"
        )
    strata: dict[str, list[str]] = {}
    for name, places in groups.items():
        strata.setdefault(label(rows[places[0]]), []).append(name)
    chosen: dict[str, str] = {}
    for names in strata.values():
        ordered = sorted(names, key=_hash)
        num_heldout, num_valid = round(heldout * len(names)), round(valid * len(names))
        chosen |= dict.fromkeys(ordered[:num_heldout], "heldout")
        chosen |= dict.fromkeys(ordered[num_heldout : num_heldout + num_valid], "valid")
    _fill(chosen, "valid", strata)
    if heldout > 0:
        _fill(chosen, "heldout", strata)
    parts: dict[str, list[Any]] = {"train": [], "valid": [], "heldout": []}
    for row in rows:
        parts[chosen.get(content(row), "train")].append(row)
    return RowSplit(**parts)


def _fill(chosen: dict[str, str], part: str, strata: dict[str, list[str]]) -> None:
    """Gives a part that came out empty the last content of the most frequent label."""
    if part in chosen.values():
        return
    largest = max(strata.values(), key=len)
    free = [name for name in sorted(largest, key=_hash) if name not in chosen]
    free = free or [name for names in strata.values() for name in names if name not in chosen]
    chosen[free[-1]] = part


def _hash(content: str) -> bytes:
    return hashlib.sha256(content.encode(errors="surrogatepass")).digest()
