"""Labelled data: what an example set is, and the texts in it."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from weldlm.config import HeadKind, ModelConfig
from weldlm.objectives.micro_batch import MicroBatch
from weldlm.packing import PackedBatch

__all__ = ["EncodedTexts", "ExampleSet", "fingerprint"]

Ints = npt.NDArray[np.int64]


class ExampleSet(Protocol):
    """Examples with what is to be said of them; the objective of its kind of label."""

    head: ClassVar[HeadKind]  # of the models that learn from it

    @property
    def lengths(self) -> Ints:
        """[N], tokens that each example passes through a model, encoder and decoder."""

    @property
    def fingerprint(self) -> str:
        """Names the content."""

    def select(self, indices: Ints) -> MicroBatch:
        """Returns the examples `indices`, packed in this order; they are its sample ids."""

    def check(self, config: ModelConfig) -> None:
        """Raises ValueError where a model of this configuration cannot learn from it."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTexts:
    """Ids of N texts end to end."""

    ids: Ints  # [T]
    offsets: Ints  # [N + 1], where each text starts
    token_types: Ints | None = None  # [T], segment of each token; all the first where None

    def __post_init__(self) -> None:
        ends = self.offsets[[0, -1]].tolist() if len(self.offsets) else []
        if ends != [0, len(self.ids)] or (np.diff(self.offsets) < 0).any():
            raise ValueError(
                f"offsets {self.offsets.shape} run over {ends}; expected rising from 0 to the "
                f"number of ids, {len(self.ids)}"
            )
        if self.token_types is not None and self.token_types.shape != self.ids.shape:
            raise ValueError(
                f"token_types {self.token_types.shape}; expected one an id, {self.ids.shape}"
            )

    @classmethod
    def of(
        cls,
        sequences: Iterable[Sequence[int] | npt.NDArray[Any]],
        token_types: Iterable[Sequence[int] | npt.NDArray[Any]] | None = None,
    ) -> "EncodedTexts":
        """Lays sequences of ids, and their segments, end to end."""
        parts = [np.asarray(sequence, np.int64) for sequence in sequences]
        types = None if token_types is None else _joined([np.asarray(t) for t in token_types])
        offsets = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
        return cls(_joined(parts), offsets, types)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """[N], ids of each text."""
        return np.diff(self.offsets)

    def places(self, indices: Ints) -> Ints:
        """Where the ids of the texts `indices` stand, text after text."""
        lengths = self.lengths[indices]
        shift = self.offsets[:-1][indices] - (np.cumsum(lengths) - lengths)
        return np.repeat(shift, lengths) + np.arange(lengths.sum())

    def select(self, indices: Ints) -> PackedBatch:
        """Returns the texts `indices`, packed in this order."""
        places = self.places(indices)
        batch = PackedBatch.from_lengths(
            torch.from_numpy(self.ids[places]), self.lengths[indices].tolist()
        )
        if self.token_types is None:
            return batch
        return replace(batch, token_types=torch.from_numpy(self.token_types[places]))

    def check(self, config: ModelConfig, *, what: str = "example") -> None:
        """Refuses ids and lengths that a model does not take."""
        if not len(self):
            raise ValueError(f"there is no {what}; expected at least one")
        lengths = self.lengths
        has_end = config.positions != "relative"
        if has_end and lengths.max() > config.context_length:
            raise ValueError(
                f"{what} {lengths.argmax()} has {lengths.max()} tokens; expected at most the "
                f"model's context_length, {config.context_length}: cut it"
            )
        if self.ids.size and not 0 <= self.ids.min() <= self.ids.max() < config.vocab_size:
            is_wrong = (self.ids < 0) | (self.ids >= config.vocab_size)
            place = int(is_wrong.argmax())
            index = int(np.searchsorted(self.offsets, place, side="right")) - 1
            raise ValueError(
                f"{what} {index} holds the id {self.ids[place]}; expected 0 to "
                f"{config.vocab_size - 1}: was it encoded with the model's tokenizer?"
            )


def fingerprint(kind: str, *arrays: npt.NDArray[Any] | None) -> str:
    """A hash of arrays, with their dtypes and shapes."""
    content = hashlib.sha256(kind.encode())
    for array in arrays:
        if array is None:
            content.update(b"none")
        else:
            content.update(f"{array.dtype}{array.shape}".encode())
            content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _joined(parts: Sequence[npt.NDArray[Any]]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64, copy=False)
