"""Masked language modeling: some tokens are hidden, and those are to be predicted (BERT)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weldlm.config import HeadKind, ModelConfig
from weldlm.objectives.labels import IGNORED
from weldlm.objectives.samples import (
    check_ids,
    check_sample_ids,
    check_share,
    check_vocabulary,
    flags,
)
from weldlm.packing import PackedBatch
from weldlm.tokenizer import Tokenizer

__all__ = ["MaskedLMObjective", "word_starts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedLMObjective:
    """Chooses tokens, hides most of them and asks for all of them (Devlin et al. 2018).

    Of the chosen tokens a share becomes the mask token, a share a random id of the vocabulary, and
    the rest stay. Special tokens are never chosen.
    """

    vocab_size: int
    mask_id: int
    special_ids: Sequence[int]  # never chosen, such as [CLS], [SEP] and [PAD]
    share: float = 0.15  # of the tokens, or of the words, that are chosen
    mask_share: float = 0.8  # of the chosen tokens, that become mask_id
    random_share: float = 0.1  # of the chosen tokens, that become a random id
    # [vocab_size] true where a token begins a word (`word_starts`): whole words are chosen
    word_starts: npt.NDArray[np.bool_] | None = None
    frame_ids: tuple[int, int] | None = None  # put around every sequence: [CLS] and [SEP]
    seed: int = 0
    head: ClassVar[HeadKind] = "masked_lm"
    _is_special: npt.NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    _starts_word: npt.NDArray[np.bool_] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_share("share", self.share)
        check_share("mask_share", self.mask_share)
        check_share("random_share", self.random_share)
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"mask_share {self.mask_share} and random_share {self.random_share} add up to more "
                "than 1; expected shares of the chosen tokens"
            )
        if not 0 <= self.mask_id < self.vocab_size:
            raise ValueError(f"mask_id is {self.mask_id}; expected 0 to {self.vocab_size - 1}")
        starts = np.ones(self.vocab_size, bool) if self.word_starts is None else self.word_starts
        if np.shape(starts) != (self.vocab_size,):
            raise ValueError(
                f"word_starts {np.shape(starts)}; expected one value a token, ({self.vocab_size},)"
            )
        # frozen: set once, here
        special_ids = (*self.special_ids, *(self.frame_ids or ()))
        object.__setattr__(self, "_is_special", flags(special_ids, self.vocab_size))
        object.__setattr__(self, "_starts_word", np.ascontiguousarray(starts, bool))

    @property
    def num_added(self) -> int:
        """Tokens that it adds to a sequence."""
        return len(self.frame_ids or ())

    def check(self, config: ModelConfig) -> None:
        """Refuses a model of another vocabulary."""
        check_vocabulary(self.vocab_size, config)

    def __call__(
        self, batch: PackedBatch, sample_ids: Sequence[int] | npt.NDArray[np.int64]
    ) -> tuple[PackedBatch, Tensor]:
        """Hides tokens of a batch on the host.

        Args:
            batch: sequences of the model's ids, with special tokens unless `frame_ids` adds them.
            sample_ids: [B], the number of each sequence in the whole run; with the seed it decides
                every choice.

        Returns:
            The batch with hidden tokens, and labels [T] int64: the true id where a token was
            chosen, -100 elsewhere.

        Raises:
            ValueError: an id is outside the vocabulary, or there are not as many sample ids as
                sequences.
        """
        from weldlm.objectives.loops import hide_tokens  # numba loads slowly, and not all need it

        batch = batch if self.frame_ids is None else batch.framed(*self.frame_ids)
        ids = np.ascontiguousarray(batch.ids.numpy())
        check_ids(ids, self.vocab_size)
        samples = check_sample_ids(sample_ids, batch.num_sequences)
        hidden, labels = ids.copy(), np.full_like(ids, IGNORED)
        hide_tokens(
            ids, batch.offsets.numpy(), samples, self.seed,
            self._is_special, self._starts_word,
            self.share, self.mask_share, self.mask_share + self.random_share,
            self.mask_id, self.vocab_size, hidden, labels,
        )  # fmt: skip
        return replace(batch, ids=torch.from_numpy(hidden)), torch.from_numpy(labels)


def word_starts(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Which tokens of a vocabulary begin a word, [vocab_size].

    WordPiece marks the inside of a word (`##`); in the other vocabularies the beginning is marked,
    by white space in front, and every token without it goes on with the word before.
    """
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.vocab_size)]
    prefix = getattr(tokenizer.parts.model, "continuing_prefix", None)
    if prefix is not None:
        return np.array([not token.startswith(prefix.encode()) for token in tokens])
    return np.array([token.startswith(_SPACES) for token in tokens])


_SPACES = (b" ", b"\t", b"\n", b"\r", "\u2581".encode())  # the last one is SentencePiece's
