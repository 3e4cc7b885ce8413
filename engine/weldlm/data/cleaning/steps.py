"""A text goes through steps; each leaves it, takes some of it away, or all of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weldlm.data.cleaning.tally import Sample, StepCount, Tally, rank_of
from weldlm.data.corpus import Document

__all__ = ["EMPTY", "Cleaner", "Step", "TextStep"]

TextStep = Callable[[str], str | None]  # the text that stays; None removes the document

EMPTY = "empty"  # name of the step that removes what holds no text


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done to texts."""

    name: str
    apply: TextStep
    is_shown: bool = True  # samples of what it takes away may be shown
    is_for_web_pages: bool = False


class Cleaner:
    """Takes documents through steps in their order, and counts what each did."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self.tally = Tally()

    def clean(self, document: Document) -> str | None:
        """Returns the text that stays, or None."""
        self.tally.documents += 1
        self.tally.characters += len(document.text)
        text = document.text
        if not text.strip():
            self._remove(EMPTY, document, text, is_shown=False)
            return None
        for step in self.steps:
            if step.is_for_web_pages and not document.is_web_page:
                continue
            left = step.apply(text)
            if left is None or not left.strip():
                self._remove(step.name, document, text, is_shown=step.is_shown)
                return None
            if left != text:
                self._change(step, document, text, left)
                text = left
        return text

    def _remove(self, name: str, document: Document, text: str, *, is_shown: bool) -> None:
        count = self.tally.step(name)
        count.removed += 1
        count.characters += len(text)
        if is_shown:
            _sample(count, document, text)

    def _change(self, step: Step, document: Document, text: str, left: str) -> None:
        count = self.tally.step(step.name)
        count.changed += 1
        count.characters += len(text) - len(left)
        if step.is_shown:
            _sample(count, document, text, left)


def _sample(count: StepCount, document: Document, text: str, left: str = "") -> None:
    if count.wants(rank_of(document.name, document.text)):
        kept = set(left.split("\n"))
        gone = "\n".join(line for line in text.split("\n") if line not in kept)
        count.add_sample(Sample.of(document.name, document.text, gone))
