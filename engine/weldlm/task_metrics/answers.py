"""Answers as texts: exact match and F1 over words, as SQuAD judges them (Rajpurkar et al. 2016)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from weldlm.task_metrics.labels import f1, require_as_many

__all__ = ["exact_match", "judge_answers", "normalize_answer", "overlap_f1"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def judge_answers(predicted: Sequence[str], expected: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns the means of exact_match and f1, each against the true answer that fits best.

    Args:
        predicted: an answer each; empty where there is none.
        expected: the true answers of each question; none where the context has none.

    Raises:
        ValueError: they differ in number, or there are none.
    """
    require_as_many(predicted, expected)
    pairs = [
        (answer, list(truths) or [""]) for answer, truths in zip(predicted, expected, strict=True)
    ]
    matches = [max(exact_match(answer, truth) for truth in truths) for answer, truths in pairs]
    overlaps = [max(overlap_f1(answer, truth) for truth in truths) for answer, truths in pairs]
    return {"exact_match": sum(matches) / len(pairs), "f1": sum(overlaps) / len(pairs)}


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation, articles and white space that is not one space."""
    plain = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(predicted: str, expected: str) -> float:
    """1 where both are the same once normalized, else 0."""
    return float(normalize_answer(predicted) == normalize_answer(expected))


def overlap_f1(predicted: str, expected: str) -> float:
    """F1 of the words that both have, counted as often as both have them."""
    ours, theirs = normalize_answer(predicted).split(), normalize_answer(expected).split()
    if not ours or not theirs:
        return float(ours == theirs)
    num_common = (Counter(ours) & Counter(theirs)).total()
    return f1(num_common, len(ours), len(theirs))
