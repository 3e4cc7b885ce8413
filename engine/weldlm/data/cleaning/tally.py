"""What the steps took away: counts, and samples that do not depend on the order of the work."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

__all__ = ["Sample", "StepCount", "Tally"]

_SAMPLES = 5  # of each step
_SHOWN = 400  # characters of a sample


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """A piece of text that was taken away."""

    rank: str  # a hash; those with the lowest are kept
    name: str  # of the document
    text: str
    instead: str = ""  # name of the document that stays in its place

    @classmethod
    def of(cls, name: str, source: str, text: str, *, instead: str = "") -> "Sample":
        """A sample whose rank comes from the text that the document had."""
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
        return cls(rank_of(name, source), name, shown, instead)


def rank_of(name: str, source: str) -> str:
    """Orders documents at random, and always in the same way."""
    content = f"{name}\0{source}".encode(errors="surrogatepass")
    return blake2b(content, digest_size=8).hexdigest()


@dataclass(slots=True)
class StepCount:
    """What one step did."""

    removed: int = 0  # documents
    changed: int = 0  # documents that stayed, with less or other text
    characters: int = 0  # fewer than before
    samples: list[Sample] = field(default_factory=list)

    def wants(self, rank: str) -> bool:
        """Whether a sample of this rank would be kept."""
        return len(self.samples) < _SAMPLES or rank < self.samples[-1].rank

    def add_sample(self, sample: Sample) -> None:
        self.samples = sorted([*self.samples, sample])[:_SAMPLES]

    def add(self, other: "StepCount") -> None:
        """Adds what the step did elsewhere."""
        self.removed += other.removed
        self.changed += other.changed
        self.characters += other.characters
        self.samples = sorted([*self.samples, *other.samples])[:_SAMPLES]


@dataclass(slots=True)
class Tally:
    """What all steps did to a number of documents."""

    documents: int = 0  # that were read
    characters: int = 0  # in them
    steps: dict[str, StepCount] = field(default_factory=dict)

    def step(self, name: str) -> StepCount:
        return self.steps.setdefault(name, StepCount())

    def add(self, other: "Tally") -> None:
        """Adds what was done to other documents."""
        self.documents += other.documents
        self.characters += other.characters
        for name, count in other.steps.items():
            self.step(name).add(count)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Tally":
        steps = {name: _count(step) for name, step in fields["steps"].items()}
        return cls(fields["documents"], fields["characters"], steps)

    @classmethod
    def total(cls, parts: Iterable["Tally"]) -> "Tally":
        """What was done to the documents of all."""
        total = cls()
        for part in parts:
            total.add(part)
        return total


def _count(fields: dict[str, Any]) -> StepCount:
    samples = [Sample(**sample) for sample in fields["samples"]]
    return StepCount(**{**fields, "samples": samples})
