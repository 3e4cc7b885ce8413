"""Whether confidences can be taken at their word: expected calibration error, reliability plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weldlm.atomic_file import replace_text

__all__ = ["Bin", "Calibration", "calibrate", "draw_reliability"]

_NUM_BINS = 10
_SIZE, _MARGIN = 360, 56


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose confidence lies in (low, high]."""

    low: float
    high: float
    num_rows: int
    confidence: float  # mean; 0 of none
    accuracy: float  # share of right ones; 0 of none


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence beside accuracy."""

    bins: tuple[Bin, ...]

    @property
    def expected_error(self) -> float:
        """ECE: the mean distance of accuracy and confidence, bins weighted by their rows."""
        num_rows = sum(part.num_rows for part in self.bins)
        gaps = (part.num_rows * abs(part.accuracy - part.confidence) for part in self.bins)
        return sum(gaps) / num_rows


def calibrate(confidences: Sequence[float], is_right: Sequence[bool]) -> Calibration:
    """Sorts answers into ten bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    Args:
        confidences: of the answers, 0 to 1.
        is_right: of as many answers.

    Raises:
        ValueError: they differ in number, or there are none.
    """
    if len(confidences) != len(is_right) or not confidences:
        raise ValueError(
            f"{len(confidences)} confidences and {len(is_right)} answers; expected as many, and at "
            "least one"
        )
    values, hits = np.array(confidences), np.array(is_right, dtype=np.float64)
    places = np.clip(np.ceil(values * _NUM_BINS) - 1, 0, _NUM_BINS - 1)
    bins = []
    for place in range(_NUM_BINS):
        chosen = places == place
        count = int(chosen.sum())
        bins.append(
            Bin(
                low=place / _NUM_BINS,
                high=(place + 1) / _NUM_BINS,
                num_rows=count,
                confidence=float(values[chosen].mean()) if count else 0.0,
                accuracy=float(hits[chosen].mean()) if count else 0.0,
            )
        )
    return Calibration(tuple(bins))


def draw_reliability(calibration: Calibration, svg: str | Path) -> None:
    """Draws accuracy against confidence, a bar for each bin, beside the diagonal of a calibrated
    model, as a self-contained SVG."""
    side, low = _SIZE + 2 * _MARGIN, _MARGIN + _SIZE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{side}" height="{side}" fill="white"/>',
        f'<text x="{_MARGIN}" y="24">expected calibration error '
        f"{calibration.expected_error:.4f}</text>",
    ]
    for part in calibration.bins:
        x, height = _MARGIN + part.low * _SIZE, part.accuracy * _SIZE
        parts.append(
            f'<rect x="{x:.1f}" y="{low - height:.1f}" width="{_SIZE / _NUM_BINS - 2:.1f}" '
            f'height="{height:.1f}" fill="#1f77b4"><title>{part.num_rows} rows, confidence '
            f"{part.confidence:.3f}, accuracy {part.accuracy:.3f}</title></rect>"
        )
    for tick in range(0, 11, 2):
        at, share = tick / 10 * _SIZE, f"{tick / 10:.1f}"
        parts.append(
            f'<text x="{_MARGIN + at:.1f}" y="{low + 18}" text-anchor="middle">{share}</text>'
            f'<text x="{_MARGIN - 8}" y="{low - at + 4:.1f}" text-anchor="end">{share}</text>'
        )
    parts += [
        f'<line x1="{_MARGIN}" y1="{low}" x2="{_MARGIN + _SIZE}" y2="{_MARGIN}" stroke="#d62728"/>',
        f'<text x="{side / 2}" y="{low + 40}" text-anchor="middle">confidence</text>',
        f'<text x="16" y="{side / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {side / 2})">accuracy</text>',
        "</svg>",
        "",
    ]
    replace_text(Path(svg), "\n".join(parts))
