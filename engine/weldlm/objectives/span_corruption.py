"""Span corruption: runs of tokens give way to sentinels, and are to be written (T5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weldlm.config import HeadKind, ModelConfig
from weldlm.objectives.samples import check_ids, check_sample_ids, check_share, check_vocabulary
from weldlm.packing import PackedBatch

__all__ = ["SpanCorruptionObjective"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanCorruptionObjective:
    """Hides spans of tokens behind sentinels and asks for them (Raffel et al. 2019, 3.1.4).

    A sequence "a b c d e" with the spans "b" and "d e" becomes the input "a <0> c <1>" and the
    target "<0> b <1> d e"; both end with `eos_id`. How many tokens and spans are hidden follows
    from the length; where they lie is drawn, as in T5's random_spans_noise_mask.
    """

    vocab_size: int
    first_sentinel: int  # <extra_id_0>; the later ones count down from it
    eos_id: int
    start_id: int  # with which a decoder begins; T5's padding token
    num_sentinels: int = 100
    share: float = 0.15  # of the tokens, that are hidden
    mean_span: float = 3.0  # tokens
    seed: int = 0
    head: ClassVar[HeadKind] = "seq2seq_lm"
    num_added: ClassVar[int] = 1  # a sequence too short to hide anything only gets an end

    def __post_init__(self) -> None:
        check_share("share", self.share)
        if not self.mean_span >= 1:
            raise ValueError(f"mean_span is {self.mean_span}; expected at least 1 token")
        if self.num_sentinels < 1:
            raise ValueError(f"num_sentinels is {self.num_sentinels}; expected at least 1")
        lowest = self.first_sentinel - self.num_sentinels + 1
        named = {"eos_id": self.eos_id, "start_id": self.start_id, "the last sentinel": lowest}
        for name, index in {**named, "first_sentinel": self.first_sentinel}.items():
            if not 0 <= index < self.vocab_size:
                raise ValueError(f"{name} is {index}; expected 0 to {self.vocab_size - 1}")

    def check(self, config: ModelConfig) -> None:
        """Refuses a model of another vocabulary or that begins its targets with another token."""
        check_vocabulary(self.vocab_size, config)
        if config.decoder_start_id != self.start_id:
            raise ValueError(
                f"start_id is {self.start_id}; expected the model's decoder_start_id, "
                f"{config.decoder_start_id}"
            )

    def __call__(
        self, batch: PackedBatch, sample_ids: Sequence[int] | Ints
    ) -> tuple[PackedBatch, PackedBatch, Tensor]:
        """Corrupts a batch on the host.

        Args:
            batch: sequences without end tokens. One of fewer than two tokens stays whole.
            sample_ids: [B], the number of each sequence in the whole run; with the seed it decides
                every choice.

        Returns:
            The encoder's batch, the decoder's batch, and the decoder's labels [T] int64.

        Raises:
            ValueError: an id is outside the vocabulary, there are not as many sample ids as
                sequences, or a sequence needs more sentinels than there are.
        """
        from weldlm.objectives.loops import corrupt_spans  # numba loads slowly, and not all need it

        ids = np.ascontiguousarray(batch.ids.numpy())
        check_ids(ids, self.vocab_size)
        samples = check_sample_ids(sample_ids, batch.num_sequences)
        offsets = batch.offsets.numpy().astype(np.int64)
        lengths = np.diff(offsets)
        hidden, spans = self._plan(lengths)
        kept = lengths - hidden + spans + 1  # what the encoder reads: sentinels and an end too
        asked = hidden + spans + 1
        inputs, targets = np.empty(kept.sum(), np.int64), np.empty(asked.sum(), np.int64)
        corrupt_spans(
            ids, offsets, samples, self.seed, hidden, spans, self.first_sentinel, self.eos_id,
            inputs, targets,
        )  # fmt: skip
        labels = torch.from_numpy(targets)
        shifted = labels.roll(1)
        shifted[np.cumsum(asked) - asked] = self.start_id
        return (
            PackedBatch.from_lengths(torch.from_numpy(inputs), kept.tolist()),
            PackedBatch.from_lengths(shifted, asked.tolist()),
            labels,
        )

    def _plan(self, lengths: Ints) -> tuple[Ints, Ints]:
        """How many tokens each sequence hides, in how many spans."""
        most = np.maximum(lengths - 1, 0)
        hidden = np.clip(np.rint(lengths * self.share).astype(np.int64), np.minimum(1, most), most)
        spans = np.maximum(np.rint(hidden / self.mean_span).astype(np.int64), 1)
        spans = np.minimum(np.minimum(spans, hidden), lengths - hidden)
        if spans.size and spans.max() > self.num_sentinels:
            raise ValueError(
                f"a sequence of {lengths[spans.argmax()]} tokens needs {spans.max()} sentinels; "
                f"expected at most {self.num_sentinels}: cut it, or raise mean_span"
            )
        return hidden, spans
