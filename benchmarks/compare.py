"""Ours against a peer: both take turns in one process, and the ratio is the median over the pairs.

A machine that is busy for a while slows both sides of a pair, so the ratio keeps its meaning where
times do not.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Comparison", "Outcome", "measure"]

_MIN_SECONDS = 0.2  # a side repeats its work until it took this long


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same work done by us and by a peer; results are equal, which the maker has checked."""

    work: str  # what is done, with its sizes
    peer: str  # who else does it, with its settings
    ours: Callable[[], object]
    theirs: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times of one call in seconds, and how many times faster we are."""

    comparison: Comparison
    ours: float  # median
    theirs: float  # median
    ratio: float  # theirs / ours, median over the pairs
    lowest: float  # ratio of the worst pair
    highest: float  # ratio of the best pair


def measure(comparison: Comparison, *, pairs: int) -> Outcome:
    """Times both sides in turn, `pairs` times after one round that warms up."""
    repeats = [
        max(1, round(_MIN_SECONDS / _seconds(side, 1)))
        for side in (comparison.ours, comparison.theirs)
    ]
    times = []
    for _ in range(pairs):
        gc.collect()
        times.append(
            (_seconds(comparison.ours, repeats[0]), _seconds(comparison.theirs, repeats[1]))
        )
    ratios = [theirs / ours for ours, theirs in times]
    return Outcome(
        comparison,
        ours=statistics.median(ours for ours, _ in times),
        theirs=statistics.median(theirs for _, theirs in times),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
    )


def _seconds(side: Callable[[], object], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        side()
    return (time.perf_counter() - begin) / repeats
