"""What the implementations of attention take beside the tensors and their offsets."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Options"]


class Options(NamedTuple):
    """The options of `attention`, in the order of its schema; None where one is not in use."""

    is_causal: bool
    window: int | None
    scale: float
    relative_bias: Tensor | None  # [num_buckets, H]
    max_distance: int
    is_bidirectional: bool
    alibi_slopes: Tensor | None  # [H]
    softcap: float | None
    dropout_p: float
    dropout_seed: Tensor | None  # one integer
