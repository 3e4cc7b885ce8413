"""What the decoder of an encoder-decoder reads while sequences come and go.

Each source passes the encoder once, and its keys and values for every cross-attention are computed
once; joining those of the sequences under way is a copy, made when one of them leaves or enters.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from weldlm.heads import Seq2SeqLM
from weldlm.layers import Memory
from weldlm.packing import PackedBatch

__all__ = ["Reader", "SourceMemory"]


class Reader(Protocol):
    """Whose source is read."""

    source: list[int]
    memory: Memory | None


class SourceMemory:
    """Reads sources, and joins what was read of several."""

    def __init__(self, model: Seq2SeqLM) -> None:
        self._model, self._device = model, next(model.parameters()).device
        self._joined: tuple[list[Memory | None], int] = [], 0
        self._joint: Memory | None = None

    def read(self, readers: Sequence[Reader], *, multiple: int = 1) -> None:
        """Sets the memory of each reader, of a source of at least one token.

        Args:
            readers: several may be the same.
            multiple: fills the rows of the encoder up to a multiple of it.
        """
        distinct = list({id(reader): reader for reader in readers}.values())
        if not distinct:
            return
        lengths = [len(reader.source) for reader in distinct]
        ids = [token_id for reader in distinct for token_id in reader.source]
        ids += [0] * (-len(ids) % multiple)
        batch = PackedBatch.from_lengths(torch.from_numpy(np.array(ids, dtype=np.int64)), lengths)
        memory = self._model.encode(batch.to(self._device))
        parts = [*lengths, len(ids) - sum(lengths)]
        layers = [
            list(zip(k.split(parts), v.split(parts), strict=True))
            for k, v in memory.keys_and_values
        ]
        for place, (reader, length) in enumerate(zip(distinct, lengths, strict=True)):
            reader.memory = Memory(
                # nothing reads the states once keys and values are there
                states=memory.states[:0],
                offsets=memory.offsets.new_tensor([0, length]),
                max_length=length,
                keys_and_values=tuple(
                    (layer[place][0].clone(), layer[place][1].clone()) for layer in layers
                ),
            )

    def join(self, parts: list[Memory | None], num_sequences: int) -> Memory:
        """All parts end to end, and nothing for the sequences behind them."""
        joined, number = self._joined
        is_same = number == num_sequences and len(joined) == len(parts)
        if not is_same or any(a is not b for a, b in zip(joined, parts, strict=True)):
            self._joined = parts, num_sequences
            self._joint = _join([part for part in parts if part is not None], num_sequences)
        assert self._joint is not None
        return self._joint


def _join(parts: Sequence[Memory], num_sequences: int) -> Memory:
    if len(parts) == num_sequences == 1:
        return parts[0]
    layers = zip(*(part.keys_and_values for part in parts), strict=True)
    lengths = np.zeros(num_sequences + 1, dtype=np.int32)
    lengths[1 : len(parts) + 1] = [part.max_length for part in parts]
    return Memory(
        states=parts[0].states,
        offsets=torch.from_numpy(lengths.cumsum(dtype=np.int32)).to(parts[0].offsets.device),
        max_length=max(part.max_length for part in parts),
        keys_and_values=tuple(
            (torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in layers
        ),
    )
