"""What the tasks learn from, a row each: typed, with the place that a message can name."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Answer", "Chat", "LabelledText", "LabelledWords", "Question", "SourceTarget"]


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, or a pair of them, with its label."""

    place: str  # file:line
    text: str
    pair: str | None = None
    label: str | None = None  # a number as text, where one is to be predicted


@dataclass(frozen=True, slots=True)
class LabelledWords:
    """A sentence as words, with a tag each."""

    place: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Where an answer stands in its context."""

    text: str
    start: int  # character


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a context; no answer stands there where `answers` is empty."""

    place: str
    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None


@dataclass(frozen=True, slots=True)
class SourceTarget:
    """A text and what is to be made of it."""

    place: str
    source: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages with "role" and "content"; those of the assistant are to be learned."""

    place: str
    messages: tuple[Mapping[str, str], ...]
