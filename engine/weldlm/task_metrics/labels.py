"""Predicted labels against true ones."""

from collections import Counter
from collections.abc import Sequence

__all__ = ["f1", "judge_labels", "require_as_many"]


def judge_labels(predicted: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Returns accuracy, macro_f1 and micro_f1.

    macro_f1 is the mean over the labels that occur on either side, as in scikit-learn; micro_f1
    counts all labels together, which with one label a row is the accuracy.

    Raises:
        ValueError: they differ in number, or there are none.
    """
    require_as_many(predicted, expected)
    hits = Counter(a for a, b in zip(predicted, expected, strict=True) if a == b)
    num_predicted, num_expected = Counter(predicted), Counter(expected)
    labels = num_predicted.keys() | num_expected.keys()
    scores = [f1(hits[label], num_predicted[label], num_expected[label]) for label in labels]
    return {
        "accuracy": hits.total() / len(expected),
        "macro_f1": sum(scores) / len(labels),
        "micro_f1": f1(hits.total(), len(predicted), len(expected)),
    }


def f1(num_hits: int, num_predicted: int, num_expected: int) -> float:
    """2 hits / (predicted + expected), the harmonic mean of precision and recall; 0 of nothing."""
    return 2 * num_hits / (num_predicted + num_expected) if num_hits else 0.0


def require_as_many(predicted: Sequence[object], expected: Sequence[object]) -> None:
    """Refuses what cannot be compared one by one."""
    if len(predicted) != len(expected) or not expected:
        raise ValueError(
            f"{len(predicted)} predicted and {len(expected)} expected; expected as many, and at "
            "least one"
        )
