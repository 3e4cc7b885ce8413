"""What objectives check before compiled code, which does not look at bounds, reads their input."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from weldlm.config import ModelConfig

__all__ = ["check_ids", "check_sample_ids", "check_share", "check_vocabulary", "flags"]

Ints = npt.NDArray[np.int64]


def check_share(name: str, value: float) -> None:
    """Refuses what is no share of a whole."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; expected 0 to 1")


def check_vocabulary(vocab_size: int, config: ModelConfig) -> None:
    """Refuses ids that the model does not have."""
    if vocab_size > config.vocab_size:
        raise ValueError(
            f"the objective's vocab_size is {vocab_size}; expected at most the model's, "
            f"{config.vocab_size}"
        )


def check_ids(ids: Ints, vocab_size: int) -> None:
    """Refuses ids outside the vocabulary, which would be read and written out of bounds."""
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        worst = int(ids.min() if ids.min() < 0 else ids.max())
        raise ValueError(
            f"the batch holds the id {worst}; expected 0 to {vocab_size - 1}: was it encoded with "
            "the model's tokenizer?"
        )


def check_sample_ids(sample_ids: Sequence[int] | Ints, num_sequences: int) -> Ints:
    """The sample ids as an array, one a sequence."""
    samples = np.asarray(sample_ids, dtype=np.int64)
    if samples.shape != (num_sequences,):
        raise ValueError(
            f"sample_ids {samples.shape} for {num_sequences} sequences; expected one a sequence"
        )
    return samples


def flags(ids: Sequence[int], vocab_size: int) -> npt.NDArray[np.bool_]:
    """[vocab_size], true at `ids`."""
    found = np.zeros(vocab_size, dtype=bool)
    for index in ids:
        if not 0 <= index < vocab_size:
            raise ValueError(f"special_ids holds {index}; expected 0 to {vocab_size - 1}")
        found[index] = True
    return found
