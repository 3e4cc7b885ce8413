"""An inspection as one PNG, drawn by matplotlib: what the page shows without pointing at it."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from weldlm.atomic_file import replace_file
from weldlm.heads import Seq2SeqLM
from weldlm.inspect.inspection import Inspection
from weldlm.inspect.sample import AttentionKind

__all__ = ["require_matplotlib", "write_picture"]

_DPI = 110
_LONGEST_NAME = 14  # characters of a token
_MOST_NAMES = 160  # tokens on an axis that have names
_MOST_CELLS = 64  # tokens in the lens whose cells have names
_ROW_HEIGHT = 0.26  # inches of a line of text

Floats = npt.NDArray[np.float32]
Draw = Callable[[Any], None]


def require_matplotlib() -> Any:
    """Returns matplotlib's Figure.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            "a PNG needs matplotlib, which is not installed; run: pip install 'weldlm[inspect]', "
            "or write .html or .json"
        ) from error
    return Figure


def write_picture(seen: Inspection, path: Path) -> None:
    """Draws what was seen, one view below the other.

    Raises:
        ValueError: matplotlib is not installed.
    """
    figure_of = require_matplotlib()
    panels = _panels(seen)
    heights = [height for height, _ in panels]
    width = min(30.0, max(9.0, 3.0 + 0.34 * _longest_side(seen)))
    figure = figure_of(figsize=(width, sum(heights)), dpi=_DPI, layout="constrained")
    parts = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (_, draw) in zip(parts, panels, strict=True):
        draw(part)
    with warnings.catch_warnings():
        # a script that no installed font has is drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        with replace_file(path) as draft:
            figure.savefig(draft, format="png")


def _panels(seen: Inspection) -> list[tuple[float, Draw]]:
    """Height in inches, and what draws there."""
    panels: list[tuple[float, Draw]] = [(0.7, partial(_draw_title, seen=seen))]
    panels += [
        (2.6, partial(_draw_attribution, seen=seen, number=number))
        for number in range(len(seen.attributions))
    ]
    if seen.lens is not None:
        height = 1.6 + _ROW_HEIGHT * len(seen.lens.top_ids)
        panels.append((height, partial(_draw_lens, seen=seen)))
    for kind, maps in seen.attention.items():
        layers, heads = maps.shape[:2]
        height = 1.0 + 7.0 * min(1.5, layers / heads)
        panels.append((height, partial(_draw_attention, seen=seen, kind=kind)))
    panels += [
        (1.5 + max(5.0, 0.13 * len(maps[0])), partial(_draw_rollout, seen=seen, kind=kind))
        for kind, maps in seen.rollout.items()
    ]
    if seen.ablation is not None:
        panels += [
            (1.3 + 0.3 * len(changes), partial(_draw_ablation, seen=seen, kind=kind))
            for kind, changes in seen.ablation.changes.items()
        ]
    if seen.neighbors is not None:
        height = 0.9 + _ROW_HEIGHT * len(seen.neighbors.ids)
        panels.append((height, partial(_draw_neighbors, seen=seen)))
    return panels


def _longest_side(seen: Inspection) -> int:
    return min(_MOST_NAMES, max(len(seen.reading.tokens), len(seen.reading.target_tokens)))


def _draw_title(part: Any, seen: Inspection) -> None:
    config = seen.model.config
    line = f"{seen.model_name} ({config.family}, {seen.model.kind})"
    part.text(0.01, 0.7, _name(line, 110), fontsize=13, weight="bold", parse_math=False)
    part.text(0.01, 0.2, _name(seen.text, 130), fontsize=9, parse_math=False)


def _draw_attribution(part: Any, seen: Inspection, number: int) -> None:
    question, found = seen.attributions[number]
    values = found.tokens.numpy()
    axes = part.subplots()
    colors = ["#d96214" if value > 0 else "#2563eb" for value in values]
    axes.bar(range(len(values)), values, color=colors)
    axes.axhline(0.0, color="gray", linewidth=0.6)
    axes.set_xlim(-0.6, len(values) - 0.4)
    _name_axis(axes, "x", [*seen.reading.tokens, *seen.reading.target_tokens])
    place = "" if question.place is None else f" at place {question.place}"
    chance = "" if question.probability is None else f", p = {question.probability:.3f}"
    _title(
        axes,
        f"attribution of {_name(question.name)!r}{place}{chance}"
        f" (completeness error {found.completeness_error:.2g})",
    )


def _draw_lens(part: Any, seen: Inspection) -> None:
    lens = seen.lens
    assert lens is not None
    first = lens.top_probabilities[:, :, 0].numpy()
    axes = part.subplots()
    axes.imshow(first, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", origin="lower")
    names = ["embedding", *(f"layer {layer}" for layer in range(len(first) - 1))]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    rows = seen.reading.target_tokens if isinstance(seen.model, Seq2SeqLM) else seen.reading.tokens
    _name_axis(axes, "x", list(rows) if len(rows) == first.shape[1] else ["the text"])
    if first.shape[1] <= _MOST_CELLS:
        for layer, row in np.ndindex(first.shape):
            name = _name(seen.names[int(lens.top_ids[layer, row, 0])], 9)
            color = "white" if first[layer, row] > 0.6 else "black"
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.5}
            axes.text(row, layer, name, color=color, parse_math=False, clip_on=True, **style)
    _title(axes, "logit lens: the most probable after each layer")


def _draw_attention(part: Any, seen: Inspection, kind: AttentionKind) -> None:
    axes = part.subplots()
    maps = seen.attention[kind]
    layers, heads, queries, keys = maps.shape
    shown = np.sqrt(_tiled(maps / maps.amax(dim=(2, 3), keepdim=True)))
    axes.imshow(shown, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    middle = (np.arange(heads) + 0.5) * (keys + 1) - 0.5
    axes.set_xticks(middle, range(heads), fontsize=8)
    axes.set_yticks((np.arange(layers) + 0.5) * (queries + 1) - 0.5, range(layers), fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    _title(axes, f"attention ({kind}): square root, each head by its own largest")


def _draw_rollout(part: Any, seen: Inspection, kind: AttentionKind) -> None:
    axes = part.subplots()
    last = seen.rollout[kind][-1].numpy()
    axes.imshow(np.sqrt(last), cmap="Blues", vmin=0.0, vmax=1.0)
    tokens = seen.reading.target_tokens if kind == "decoder" else seen.reading.tokens
    _name_axis(axes, "x", list(tokens))
    _name_axis(axes, "y", list(tokens))
    _title(axes, f"attention rollout ({kind}) to the last layer")


def _draw_ablation(part: Any, seen: Inspection, kind: AttentionKind) -> None:
    found = seen.ablation
    assert found is not None
    changes = found.changes[kind].numpy()
    most = max(float(part.abs().max()) for part in found.changes.values()) or 1.0
    axes = part.subplots()
    image = axes.imshow(changes, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    part.colorbar(image, ax=axes, label="nats a label")
    axes.set_xticks(range(changes.shape[1]), range(changes.shape[1]), fontsize=8)
    axes.set_yticks(range(changes.shape[0]), range(changes.shape[0]), fontsize=8)
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    _title(axes, f"change of the loss {found.loss:.3f} without each head ({kind})")


def _draw_neighbors(part: Any, seen: Inspection) -> None:
    found = seen.neighbors
    assert found is not None
    axes = part.subplots()
    axes.axis("off")
    axes.set_ylim(len(found.ids), 0)
    for row, (token_id, near, cosines) in enumerate(
        zip(found.ids.tolist(), found.near_ids.tolist(), found.cosines.tolist(), strict=True)
    ):
        names = [
            f"{_name(seen.token_names[near_id])} {cosine:.2f}"
            for near_id, cosine in zip(near, cosines, strict=True)
        ]
        style: dict[str, Any] = {"fontsize": 8, "va": "center", "family": "monospace"}
        own = _name(seen.token_names[token_id])
        axes.text(0.0, row + 0.5, own, weight="bold", parse_math=False, **style)
        axes.text(0.18, row + 0.5, "   ".join(names)[:120], parse_math=False, **style)
    _title(axes, "neighbors of the embeddings, with cosines")


def _tiled(maps: Tensor) -> Floats:
    """All maps of [layers, heads, rows, columns] beside and below each other, with seams."""
    padded = np.pad(maps.numpy(), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.05)
    layers, heads, rows, columns = padded.shape
    tiled: Floats = padded.transpose(0, 2, 1, 3).reshape(layers * rows, heads * columns)
    return tiled


def _name_axis(axes: Any, axis: str, names: list[str]) -> None:
    if len(names) > _MOST_NAMES:
        return
    shown = [_name(name) for name in names]
    ticks, rotation = range(len(shown)), 90 if axis == "x" else 0
    style: dict[str, Any] = {"fontsize": 7.5, "rotation": rotation, "parse_math": False}
    if axis == "x":
        axes.set_xticks(ticks, shown, **style)
    else:
        axes.set_yticks(ticks, shown, **style)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, fontsize=10, loc="left", parse_math=False)


def _name(text: str, longest: int = _LONGEST_NAME) -> str:
    """Printable, and not too long."""
    escaped = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    return escaped if len(escaped) <= longest else f"{escaped[: longest - 2]}.."
