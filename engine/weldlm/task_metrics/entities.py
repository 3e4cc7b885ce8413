"""Entities in the tags of words: spans, and the F1 of those found (Tjong Kim Sang 2003)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weldlm.task_metrics.labels import f1, require_as_many

__all__ = ["Entity", "find_entities", "is_bio", "judge_entities"]

_TAG = re.compile(r"O|[BIESLU]-.+")


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """Words that name something."""

    start: int  # first word
    end: int  # behind the last word
    kind: str


def is_bio(tags: Iterable[str]) -> bool:
    """Whether the tags say where entities begin and go on: O, B-x, I-x; also E, S, L and U."""
    return all(_TAG.fullmatch(tag) for tag in tags)


def find_entities(tags: Sequence[str]) -> list[Entity]:
    """Returns the entities of a sentence.

    An entity begins with B, S or U, and with I or another tag inside where none of its kind is
    open, as conlleval has it; it ends behind E, L, S and U, and where another tag does not go on.
    """
    entities: list[Entity] = []
    start, open_kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        role, _, kind = tag.partition("-")
        goes_on = role in "IEL" and kind == open_kind and open_kind != ""
        if open_kind and not goes_on:
            entities.append(Entity(start, place, open_kind))
            open_kind = ""
        if role != "O" and not goes_on:
            start, open_kind = place, kind
        if open_kind and role in "ELSU":
            entities.append(Entity(start, place + 1, open_kind))
            open_kind = ""
    return entities


def judge_entities(
    predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Returns precision, recall and f1 of all entities together, and macro_f1 over the kinds.

    An entity is found where first word, last word and kind are the same.

    Args:
        predicted: tags of each sentence.
        expected: the true tags.

    Raises:
        ValueError: sentences or their tags differ in number, or there are none.
    """
    require_as_many(predicted, expected)
    hits: Counter[str] = Counter()
    found: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for ours, theirs in zip(predicted, expected, strict=True):
        require_as_many(ours, theirs)
        a, b = set(find_entities(ours)), set(find_entities(theirs))
        hits.update(entity.kind for entity in a & b)
        found.update(entity.kind for entity in a)
        wanted.update(entity.kind for entity in b)
    kinds = found.keys() | wanted.keys()
    scores = [f1(hits[kind], found[kind], wanted[kind]) for kind in kinds]
    return {
        "precision": hits.total() / max(found.total(), 1),
        "recall": hits.total() / max(wanted.total(), 1),
        "f1": f1(hits.total(), found.total(), wanted.total()),
        "macro_f1": sum(scores) / max(len(kinds), 1),
    }
