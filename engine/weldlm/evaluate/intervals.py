"""Confidence intervals by the percentile bootstrap (Efron 1979), of one figure and of two models'.

Rows are drawn with replacement, the same ones for both models of a pair, so that what makes a row
hard for both cancels.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Difference", "Interval", "Measure", "difference", "interval"]

Indices = npt.NDArray[np.int64]
Measure = Callable[[Indices], float]  # the figure of the rows with these indices

_LOW, _HIGH = 2.5, 97.5


class Interval(NamedTuple):
    """A figure and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A figure of a first model less that of a second on the same rows, 95 % interval."""

    value: float
    low: float
    high: float
    p_value: float  # two-sided, of no difference


def interval(measure: Measure, num_rows: int, *, num_draws: int = 1_000, seed: int = 0) -> Interval:
    """Measures all rows, and draws of them.

    Raises:
        ValueError: there are no rows, or no draws.
    """
    values = [measure(indices) for indices in _draws(num_rows, num_draws, seed)]
    return Interval(measure(np.arange(num_rows)), *_bounds(values))


def difference(
    first: Measure, second: Measure, num_rows: int, *, num_draws: int = 1_000, seed: int = 0
) -> Difference:
    """Measures two models on the same rows, and on the same draws of them.

    Raises:
        ValueError: there are no rows, or no draws.
    """
    values = [first(indices) - second(indices) for indices in _draws(num_rows, num_draws, seed)]
    every = np.arange(num_rows)
    # of the draws, and one more for the data themselves
    below = (1 + sum(value <= 0 for value in values)) / (num_draws + 1)
    above = (1 + sum(value >= 0 for value in values)) / (num_draws + 1)
    p_value = min(1.0, 2 * min(below, above)) if num_rows > 1 else 1.0  # one row tells nothing
    return Difference(first(every) - second(every), *_bounds(values), p_value)


def _draws(num_rows: int, num_draws: int, seed: int) -> Iterator[Indices]:
    if num_rows < 1 or num_draws < 1:
        raise ValueError(f"{num_rows} rows and {num_draws} draws; expected at least one of each")
    random = np.random.default_rng(seed)
    for _ in range(num_draws):
        yield random.integers(num_rows, size=num_rows)


def _bounds(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [_LOW, _HIGH])
    return float(low), float(high)
