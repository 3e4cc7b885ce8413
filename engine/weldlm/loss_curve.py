"""A run's loss curve as a self-contained SVG, drawn from its metrics.jsonl."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from weldlm.atomic_file import replace_text

__all__ = ["draw_loss_curve"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 48
_NUM_TICKS = 5

Points = Sequence[tuple[float, float]]


def draw_loss_curve(metrics: str | Path, svg: str | Path) -> None:
    """Draws the training and validation loss (nats per token) against the step.

    Args:
        metrics: JSON lines with "step" and "loss" or "valid_loss".
        svg: file to write.

    Raises:
        ValueError: no line holds a finite loss, or one is not JSON.
    """
    try:
        rows = [json.loads(line) for line in Path(metrics).read_text(encoding="utf-8").splitlines()]
        training, validation = _points(rows, "loss"), _points(rows, "valid_loss")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{metrics} is damaged ({error}); expected JSON lines; mend or remove it"
        ) from error
    if not training:
        raise ValueError(f"{metrics} holds no finite loss; expected lines with step and loss")
    replace_text(Path(svg), _svg(training, validation))


def _points(rows: Iterable[dict[str, float]], key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in rows if math.isfinite(row.get(key, math.nan))]


def _svg(training: Points, validation: Points) -> str:
    every = [*training, *validation]
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / ((last - first) or 1)
        down = (high - y) / ((high - low) or 1)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _TOP + down * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20">loss in nats per token: '
        '<tspan fill="#1f77b4">training</tspan>, <tspan fill="#d62728">held out</tspan></text>',
    ]
    for tick in range(_NUM_TICKS):
        share = tick / (_NUM_TICKS - 1)
        x, y = place(first + share * (last - first), low + share * (high - low))
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{low + share * (high - low):.2f}</text>"
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">'
            f"{first + share * (last - first):.0f}</text>"
        )
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">step</text>')
    parts.append(_line([place(x, y) for x, y in training], "#1f77b4"))
    parts.append(_line([place(x, y) for x, y in validation], "#d62728"))
    return "\n".join([*parts, "</svg>", ""])


def _line(points: Points, color: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{color}"/>' for x, y in points)
    line = f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>'
    return line + (dots if len(points) < 30 else "")
