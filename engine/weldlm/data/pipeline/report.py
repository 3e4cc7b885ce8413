"""What a corpus is and how it came to be, as JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from weldlm.data.cleaning import StepCount, Tally
from weldlm.data.pipeline.cleaned_parts import CleanedParts
from weldlm.data.shards import TokenShards
from weldlm.data.sources import Sources

__all__ = ["describe_corpus"]

_NAMED = 100  # bad rows


def describe_corpus(
    sources: Sources,
    cleaned: CleanedParts,
    duplicates: dict[str, StepCount],
    splits: dict[str, TokenShards],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Returns the report: nothing in it depends on when or where the corpus was made."""
    tally = Tally.total(part.tally for part in cleaned.parts)
    steps = {**tally.steps, **duplicates}
    return {
        "settings": settings,
        "sources": {
            "files": len(sources.files),
            "bytes": sources.num_bytes,
            "left_out": sources.left_out,
            "bad": cleaned.num_bad,
            "first_bad": [
                {"place": row.place, "error": row.error}
                for row, _ in zip(cleaned.bad(), range(_NAMED), strict=False)
            ],
        },
        "documents": tally.documents,
        "characters": tally.characters,
        "steps": {name: _describe_step(step) for name, step in steps.items()},
        "splits": {name: _describe_split(shards) for name, shards in splits.items()},
        "lengths": length_histogram(list(splits.values())),
    }


def length_histogram(shards: Sequence[TokenShards]) -> list[dict[str, int]]:
    """Counts documents by tokens: from 1, 2, 4, ... up to twice as many less one."""
    lengths = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in shards)])
    bins = np.bincount(np.log2(np.maximum(lengths, 1)).astype(np.int64))
    return [
        {"from": 1 << power, "to": (2 << power) - 1, "documents": int(count)}
        for power, count in enumerate(bins)
    ]


def _describe_step(step: StepCount) -> dict[str, Any]:
    return {
        "removed": step.removed,
        "changed": step.changed,
        "characters": step.characters,
        "samples": [
            {"name": sample.name, "instead": sample.instead, "text": sample.text}
            for sample in step.samples
        ],
    }


def _describe_split(shards: TokenShards) -> dict[str, int]:
    return {
        "documents": shards.num_documents,
        "tokens": shards.num_tokens,
        "bytes": shards.source_bytes or 0,
    }
