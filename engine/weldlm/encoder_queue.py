"""EncoderQueue: rows of ids that wait for an encoder, and which of them go together.

An encoder is done with a row in one step and keeps nothing of it, so that the tokens of a step are
all that memory depends on. Rows of a file are packed by length instead, which fills steps better
(`weldlm.encoding.packed_batches`): that nobody waits for one of them makes it possible.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from weldlm.batch_limits import BatchLimits

__all__ = ["EncoderQueue"]

K = TypeVar("K", bound=Hashable)


class EncoderQueue(Generic[K]):
    """Rows by their keys, first come, first served."""

    def __init__(self, limits: BatchLimits) -> None:
        """Takes `batch_size` rows and `max_batch_tokens` tokens a step at most."""
        self._limits = limits
        self._rows: OrderedDict[K, Sequence[int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, key: K, ids: Sequence[int]) -> None:
        """Puts a row behind those that wait."""
        self._rows[key] = ids

    def drop(self, key: K) -> None:
        """Forgets a row, if it still waits."""
        self._rows.pop(key, None)

    def take(self) -> list[tuple[K, Sequence[int]]]:
        """The rows of the next step, none where none waits; one beyond the budget is alone."""
        taken: list[tuple[K, Sequence[int]]] = []
        num_tokens = 0
        while self._rows and len(taken) < self._limits.batch_size:
            key, ids = next(iter(self._rows.items()))
            num_tokens += len(ids)
            if taken and num_tokens > self._limits.max_batch_tokens:
                break
            del self._rows[key]
            taken.append((key, ids))
        return taken
