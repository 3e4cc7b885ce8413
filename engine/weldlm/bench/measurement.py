"""Measurement: how fast a side did a workload."""

import statistics
from dataclasses import dataclass

from weldlm.bench.workload import Workload

__all__ = ["Measurement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How fast a side did a workload, in rounds in which all sides took turns."""

    workload: Workload
    side: str
    seconds: tuple[float, ...]  # of each round
    ratio: float | None  # to the first side: how many times as long, median over the rounds
    floor_seconds: float | None  # that memory takes at least; None where it is not the bound

    @property
    def tokens_per_second(self) -> float:
        return self.workload.num_counted / statistics.median(self.seconds)

    @property
    def slowest(self) -> float:
        """Tokens per second of the worst round."""
        return self.workload.num_counted / max(self.seconds)

    @property
    def fastest(self) -> float:
        return self.workload.num_counted / min(self.seconds)

    @property
    def roofline_share(self) -> float | None:
        """Of the speed that memory allows."""
        if self.floor_seconds is None:
            return None
        return self.floor_seconds / statistics.median(self.seconds)
