"""Predicted numbers against true ones."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from weldlm.task_metrics.labels import require_as_many

__all__ = ["judge_numbers"]

Floats = npt.NDArray[np.float64]


def judge_numbers(predicted: Sequence[float], expected: Sequence[float]) -> dict[str, float]:
    """Returns pearson and spearman correlation, and mae and rmse, mean errors.

    A correlation with numbers that are all the same is 0.

    Raises:
        ValueError: they differ in number, or there are none.
    """
    require_as_many(predicted, expected)
    ours, theirs = np.asarray(predicted, np.float64), np.asarray(expected, np.float64)
    error = ours - theirs
    return {
        "pearson": _pearson(ours, theirs),
        "spearman": _pearson(_ranks(ours), _ranks(theirs)),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
    }


def _pearson(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def _ranks(values: Floats) -> Floats:
    """The place of each value in the order; those that are equal share their mean place."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean = (last - counts + last - 1) / 2
    ranks: Floats = mean[group]
    return ranks
