"""What one forward of training takes."""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weldlm.objectives.labels import IGNORED
from weldlm.packing import PackedBatch

__all__ = ["MicroBatch"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The arguments of a model's forward, on the host until then, and what is in them."""

    arguments: tuple[PackedBatch | Tensor, ...]  # batches, then the labels
    num_labels: int  # what the summed loss is a sum over
    # [B], names each sequence in the whole run
    sample_ids: Ints = field(default_factory=lambda: np.empty(0, np.int64), compare=False)

    @classmethod
    def of_tokens(
        cls, *arguments: PackedBatch | Tensor, sample_ids: Ints | None = None
    ) -> "MicroBatch":
        """Counts the labels, the last argument, that are not -100."""
        labels = arguments[-1]
        assert isinstance(labels, Tensor)
        micro_batch = cls(arguments, int((labels != IGNORED).sum()))
        return micro_batch if sample_ids is None else replace(micro_batch, sample_ids=sample_ids)

    @property
    def num_tokens(self) -> int:
        """Tokens that pass through the model, of encoder and decoder."""
        return sum(int(batch.offsets[-1]) for batch in self._batches)

    @property
    def num_padding(self) -> int:
        """Places of the batches that belong to no sequence."""
        return sum(batch.num_tokens for batch in self._batches) - self.num_tokens

    @property
    def _batches(self) -> list[PackedBatch]:
        return [part for part in self.arguments if isinstance(part, PackedBatch)]

    def to(self, device: torch.device) -> "MicroBatch":
        moved = tuple(
            part.to(device) if isinstance(part, PackedBatch) else part.to(device, non_blocking=True)
            for part in self.arguments
        )
        return replace(self, arguments=moved)
