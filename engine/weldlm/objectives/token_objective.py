"""What objectives of unlabelled text have in common, and the plainest of them."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from weldlm.config import HeadKind, ModelConfig
from weldlm.objectives.labels import causal_lm_labels
from weldlm.packing import PackedBatch

__all__ = ["CausalLMObjective", "TokenObjective", "describe_objective"]


class TokenObjective(Protocol):
    """Turns packed pieces of documents into the arguments of a model's forward, labels last.

    What it draws hangs on its seed and the sample ids alone. The loss is a sum over the labels
    that are not -100.
    """

    head: ClassVar[HeadKind]  # of the models that it trains

    @property
    def num_added(self) -> int:
        """Most tokens that it adds to a sequence."""

    def __call__(
        self, batch: PackedBatch, sample_ids: Sequence[int] | npt.NDArray[np.int64], /
    ) -> tuple[PackedBatch | Tensor, ...]:
        """Returns batches, then labels."""

    def check(self, config: ModelConfig) -> None:
        """Raises ValueError where a model of this configuration cannot learn from it."""


@dataclasses.dataclass(frozen=True, slots=True)
class CausalLMObjective:
    """Asks for the token that follows each token in its sequence."""

    head: ClassVar[HeadKind] = "causal_lm"
    num_added: ClassVar[int] = 0

    def __call__(
        self, batch: PackedBatch, _sample_ids: Sequence[int] | npt.NDArray[np.int64]
    ) -> tuple[PackedBatch, Tensor]:
        """Returns the batch and labels [T] int64, -100 at the end of each sequence."""
        return batch, causal_lm_labels(batch)

    def check(self, _config: ModelConfig) -> None:
        """Every decoder learns from it."""


def describe_objective(objective: TokenObjective) -> str:
    """Names the objective with all that decides what it makes of a batch."""
    fields = dataclasses.fields(objective)  # type: ignore[arg-type]
    values = ", ".join(
        f"{field.name}={_describe(getattr(objective, field.name))}"
        for field in fields
        if field.init
    )
    return f"{type(objective).__name__}({values})"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    return repr(value)
