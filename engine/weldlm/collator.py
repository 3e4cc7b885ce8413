"""Batches for causal models of transformers, without padding."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["PackedCollator"]

_NO_LABEL = -100


class PackedCollator:
    """Lays the rows of a batch end to end in one row; `position_ids` count from 0 in each.

    Causal models of transformers read from the positions where a sequence begins, so that none sees
    another; a patched one (`weldlm.patch`) also computes nothing else. Models that are not causal
    do not read them: give those padded batches, which a patched one packs by itself.
    """

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Packs rows with `input_ids`, and `labels` where all have them (else the ids).

        Args:
            rows: each with sequences or tensors [length] of equal length.

        Returns:
            input_ids, position_ids and labels, [1, T] int64, and use_cache, False: with a cache,
            transformers does not look where sequences begin. The first token of a row has no label:
            the token before it is another row's.

        Raises:
            ValueError: there is no row, or the labels of a row are not as many as its ids.
        """
        if not rows:
            raise ValueError("a batch of 0 rows was given; expected at least one")
        ids = [torch.as_tensor(row["input_ids"], dtype=torch.int64) for row in rows]
        has_labels = all("labels" in row for row in rows)
        labels = [
            torch.as_tensor(row["labels"], dtype=torch.int64).clone() if has_labels else own.clone()
            for row, own in zip(rows, ids, strict=True)
        ]
        for own, expected in zip(ids, labels, strict=True):
            if own.dim() != 1 or own.shape != expected.shape:
                raise ValueError(
                    f"input_ids {tuple(own.shape)} and labels {tuple(expected.shape)}; "
                    "expected two equal shapes [length] in each row"
                )
            expected[:1] = _NO_LABEL
        positions = [torch.arange(len(own)) for own in ids]
        return {
            "input_ids": torch.cat(ids).unsqueeze(0),
            "position_ids": torch.cat(positions).unsqueeze(0),
            "labels": torch.cat(labels).unsqueeze(0),
            "use_cache": False,
        }
