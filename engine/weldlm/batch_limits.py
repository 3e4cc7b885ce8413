"""BatchLimits: how much generation has under way at a time, and what its cache is made of."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from weldlm.field_types import require_integers

__all__ = ["BatchLimits"]

_CACHE_DTYPES = ("auto", "int8")
_POSITIVE = ("batch_size", "max_batch_tokens", "max_length", "prefill_chunk", "block_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How much is under way at a time."""

    batch_size: int = 16  # most sequences; a prompt takes as many as its n, best_of or num_beams
    max_batch_tokens: int = 2_048  # most tokens in a forward; beyond it, one a sequence
    max_length: int | None = None  # of the longest sequence; None is the model's context_length
    prefill_chunk: int | None = None  # most tokens of a prompt in a forward; None has no limit
    block_size: int = 16  # tokens in a block of the cache
    cache_bytes: int | None = None  # of the cache; where None, batch_size sequences of max_length
    cache_dtype: Literal["auto", "int8"] = "auto"  # of keys and values; auto is the model's
    shares_prefixes: bool = True  # prompts with the same beginning compute it once
    packs_weights: bool | None = None  # holds them twice, for faster products; None: fp32 on a CPU
    is_batch_invariant: bool | None = None  # rows do not depend on each other; None: on a CPU

    def __post_init__(self) -> None:
        require_integers(self)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if self.cache_dtype not in _CACHE_DTYPES:
            raise ValueError(
                f"cache_dtype is {self.cache_dtype!r}; expected {' or '.join(_CACHE_DTYPES)}"
            )

    def cut_to(self, length: int) -> Self:
        """The limits where no sequence grows beyond `length`, so that no cache is kept for it."""
        most = length if self.max_length is None else min(length, self.max_length)
        return replace(self, max_length=most)
