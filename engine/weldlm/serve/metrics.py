"""What a server counts, as Prometheus reads it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from weldlm.engine import EngineCounts

__all__ = ["Histogram", "Metrics"]

_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(slots=True)
class Histogram:
    """Seconds, by upper bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    total: float = 0.0
    num: int = 0

    def add(self, seconds: float) -> None:
        self.total += seconds
        self.num += 1
        for place, bound in enumerate(_BOUNDS):
            self.counts[place] += seconds <= bound  # each holds those below it

    def lines(self, name: str) -> Iterator[str]:
        for bound, count in zip(_BOUNDS, self.counts, strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self.num}'
        yield f"{name}_sum {self.total:.6f}"
        yield f"{name}_count {self.num}"


@dataclass(slots=True)
class Metrics:
    """Since the server started."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)  # by path and status
    num_prompt_tokens: int = 0
    num_tokens: int = 0  # new ones
    num_aborted: int = 0  # calls whose client left
    first_token: Histogram = field(default_factory=Histogram)
    whole_call: Histogram = field(default_factory=Histogram)

    def render(self, counts: EngineCounts | None) -> str:
        """The text that is scraped."""
        lines = ["# TYPE weldlm_http_answers_total counter"]
        for (path, status), number in sorted(self.answers.items()):
            lines.append(f'weldlm_http_answers_total{{path="{path}",status="{status}"}} {number}')
        for name, number in (
            ("weldlm_prompt_tokens", self.num_prompt_tokens),
            ("weldlm_generated_tokens", self.num_tokens),
            ("weldlm_aborted_calls", self.num_aborted),
            ("weldlm_preemptions", 0 if counts is None else counts.num_preemptions),
        ):
            lines += [f"# TYPE {name}_total counter", f"{name}_total {number}"]
        if counts is not None:
            for name, number in (
                ("weldlm_requests_running", counts.num_running),
                ("weldlm_requests_waiting", counts.num_waiting),
                ("weldlm_cache_blocks", counts.num_blocks),
                ("weldlm_cache_blocks_held", counts.num_held_blocks),
            ):
                lines += [f"# TYPE {name} gauge", f"{name} {number}"]
        for name, histogram in (
            ("weldlm_seconds_to_first_token", self.first_token),
            ("weldlm_seconds_of_call", self.whole_call),
        ):
            lines += [f"# TYPE {name} histogram", *histogram.lines(name)]
        return "\n".join(lines) + "\n"
