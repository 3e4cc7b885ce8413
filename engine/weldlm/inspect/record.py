"""An inspection as one JSON object, for programs and for the page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from weldlm.atomic_file import replace_text
from weldlm.heads import Seq2SeqLM
from weldlm.inspect.inspection import Inspection

__all__ = ["as_record", "write_record"]

_DIGITS = 6  # of numbers

Packing = Callable[[Tensor], Any]


def write_record(seen: Inspection, path: Path) -> None:
    """Writes one JSON object; arrays are nested lists, numbers have six digits."""
    replace_text(path, json.dumps(as_record(seen)) + "\n")


def as_record(seen: Inspection, pack: Packing | None = None) -> dict[str, Any]:
    """Returns plain lists, numbers and texts; views that are not there are None.

    Args:
        seen: what was seen.
        pack: what maps of tokens by tokens become; nested lists where None.
    """
    pack = pack or _numbers
    reading = seen.reading
    record: dict[str, Any] = {
        "model": _model(seen),
        "text": seen.text,
        "ids": reading.sample.ids.tolist(),
        "tokens": list(reading.tokens),
        "target_ids": None if reading.sample.target_ids is None else _target_ids(seen),
        "target_tokens": list(reading.target_tokens),
        "notes": seen.notes,
        "attention": {kind: pack(maps) for kind, maps in seen.attention.items()} or None,
        "rollout": {kind: pack(maps) for kind, maps in seen.rollout.items()} or None,
        "lens": _lens(seen),
        "attributions": _attributions(seen) or None,
        "ablation": None,
        "neighbors": _neighbors(seen),
    }
    if seen.ablation is not None:
        record["ablation"] = {
            "loss": _number(seen.ablation.loss),
            "labels": seen.ablation_labels,
            "changes": {kind: _numbers(part) for kind, part in seen.ablation.changes.items()},
        }
    return record


def _model(seen: Inspection) -> dict[str, Any]:
    config = seen.model.config
    return {
        "name": seen.model_name,
        "family": config.family,
        "head": seen.model.kind,
        "num_layers": config.num_layers,
        "num_encoder_layers": config.num_encoder_layers,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "num_parameters": sum(weight.numel() for weight in seen.model.parameters()),
    }


def _target_ids(seen: Inspection) -> list[int]:
    assert seen.reading.sample.target_ids is not None
    ids: list[int] = seen.reading.sample.target_ids.tolist()
    return ids


def _lens(seen: Inspection) -> dict[str, Any] | None:
    lens = seen.lens
    if lens is None:
        return None
    rows: list[str] = list(seen.reading.tokens)
    if isinstance(seen.model, Seq2SeqLM):
        rows = list(seen.reading.target_tokens)
    if lens.targets.shape[0] != len(rows):
        rows = ["the text"]
    return {
        "rows": rows,
        "names": {str(column): name for column, name in seen.names.items()},
        "targets": lens.targets.tolist(),
        "top": lens.top_ids.tolist(),
        "probabilities": _numbers(lens.top_probabilities),
        "entropies": _numbers(lens.entropies),
        "target_ranks": lens.target_ranks.tolist(),
        "target_log_probabilities": _numbers(lens.target_log_probabilities),
    }


def _attributions(seen: Inspection) -> list[dict[str, Any]]:
    return [
        {
            "name": question.name,
            "column": question.column,
            "place": question.place,
            "score": question.score,
            "probability": None if question.probability is None else _number(question.probability),
            "baseline": seen.baseline,
            "value": _number(found.score),
            "baseline_value": _number(found.baseline_score),
            "completeness_error": _number(found.completeness_error),
            "num_steps": found.num_steps,
            "is_complete": found.is_complete,
            "tokens": _numbers(found.tokens),
        }
        for question, found in seen.attributions
    ]


def _neighbors(seen: Inspection) -> list[dict[str, Any]] | None:
    found = seen.neighbors
    if found is None:
        return None
    names = seen.token_names
    return [
        {
            "id": token_id,
            "token": names[token_id],
            "near": [
                {"id": near_id, "token": names[near_id], "cosine": _number(cosine)}
                for near_id, cosine in zip(near, cosines, strict=True)
            ],
        }
        for token_id, near, cosines in zip(
            found.ids.tolist(), found.near_ids.tolist(), found.cosines.tolist(), strict=True
        )
    ]


def _numbers(values: Tensor) -> Any:
    if values.dim() == 0:
        return _number(float(values))
    return [_numbers(part) for part in values] if values.dim() > 1 else _row(values)


def _row(values: Tensor) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    rounded = float(f"{value:.{_DIGITS}g}")
    return rounded if rounded - rounded == 0 else None
