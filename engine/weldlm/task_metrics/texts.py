"""Written texts against references."""

from collections.abc import Sequence
from importlib.util import find_spec

from weldlm.task_metrics.answers import exact_match
from weldlm.task_metrics.labels import require_as_many

__all__ = ["judge_texts"]


def judge_texts(predicted: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Returns the mean exact_match, and rouge_l (F-measure) where torchmetrics is installed.

    Raises:
        ValueError: they differ in number, or there are none.
    """
    require_as_many(predicted, expected)
    pairs = zip(predicted, expected, strict=True)
    found = {"exact_match": sum(exact_match(a, b) for a, b in pairs) / len(expected)}
    if find_spec("torchmetrics") is not None:  # the extra `metrics`
        found["rouge_l"] = _rouge_l(predicted, expected)
    return found


def _rouge_l(predicted: Sequence[str], expected: Sequence[str]) -> float:
    from torchmetrics.functional.text import rouge_score

    found = rouge_score(list(predicted), list(expected), rouge_keys="rougeL")
    return float(found["rougeL_fmeasure"])
