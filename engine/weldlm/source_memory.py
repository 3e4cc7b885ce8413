"""What the decoder of an encoder-decoder reads while sequences come and go.

Each source passes the encoder once, and its keys and values for every cross-attention are computed
once; joining those of the sequences under way is a copy, made when one of them leaves or enters.
"""

from collections.abc import Sequence

import torch

from weldlm.heads import Seq2SeqLM
from weldlm.layers import Memory
from weldlm.packing import PackedBatch

__all__ = ["SourceMemory"]


class SourceMemory:
    """Keys and values of the sources of several sequences, in their order."""

    def __init__(self, model: Seq2SeqLM) -> None:
        self._model, self._device = model, next(model.parameters()).device
        self._parts: list[Memory] = []  # a source each
        self._joint: Memory | None = None

    def add(self, sources: Sequence[Sequence[int]]) -> None:
        """Reads sources of at least one token and puts them behind the others."""
        batch = PackedBatch.from_sequences(sources)
        memory = self._model.encode(batch.to(self._device))
        lengths = batch.offsets.diff().tolist()
        layers = [
            list(zip(k.split(lengths), v.split(lengths), strict=True))
            for k, v in memory.keys_and_values
        ]
        for place, length in enumerate(lengths):
            self._parts.append(
                Memory(
                    # nothing reads the states once keys and values are there
                    states=memory.states[:0],
                    offsets=memory.offsets.new_tensor([0, length]),
                    max_length=length,
                    keys_and_values=tuple(layer[place] for layer in layers),
                )
            )
        self._joint = None

    def keep(self, indices: Sequence[int]) -> None:
        """Goes on with the sources at `indices` only, in that order."""
        self._parts = [self._parts[index] for index in indices]
        self._joint = None

    def joint(self) -> Memory:
        """All sources, end to end."""
        if self._joint is None:
            self._joint = _join(self._parts)
        return self._joint


def _join(parts: Sequence[Memory]) -> Memory:
    if len(parts) == 1:
        return parts[0]
    layers = zip(*(part.keys_and_values for part in parts), strict=True)
    lengths = torch.tensor([0, *(part.max_length for part in parts)])
    offsets = parts[0].offsets
    return Memory(
        states=parts[0].states,
        offsets=lengths.cumsum(0).to(offsets.device, offsets.dtype),
        max_length=max(part.max_length for part in parts),
        keys_and_values=tuple(
            (torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in layers
        ),
    )
