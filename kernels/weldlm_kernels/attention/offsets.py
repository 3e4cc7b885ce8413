"""Offsets of packed sequences on the host."""

from itertools import pairwise

from torch import Tensor

__all__ = ["read_offsets"]


def read_offsets(name: str, offsets: Tensor, num_rows: int) -> list[int]:
    """`offsets` [B + 1] as a list; rows behind the last sequence belong to none.

    Raises:
        ValueError: they do not begin at 0, decrease, or pass the last of the rows.
    """
    bounds: list[int] = offsets.tolist()
    if bounds[0] != 0 or bounds[-1] > num_rows or any(a > b for a, b in pairwise(bounds)):
        shown = ", ".join(map(str, bounds[:6])) + (", ..." if len(bounds) > 6 else "")
        raise ValueError(
            f"{name} [{shown}] do not fit {num_rows} rows; expected 0 first, then the end of each "
            "sequence, none below the one before"
        )
    return bounds
