"""Where weights come from: tensors by the names that they have in a Hugging Face folder."""

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["TensorSource", "halves_of_pairs"]


class TensorSource(Protocol):
    """The tensors of a model, each read when it is asked for."""

    @property
    def names(self) -> list[str]: ...

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the weights, where the file does not simply say it of each."""

    def __contains__(self, name: object) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def stored_as(self, name: str) -> str:
        """The type of numbers in the file, such as BF16."""

    def read(self, name: str) -> Tensor:
        """Returns a tensor, which may be a view of the file, with its rows split into dimensions.

        Raises:
            ValueError: the file is damaged, or its type of numbers is not supported.
        """


def halves_of_pairs(weight: Tensor, num_heads: int) -> Tensor:
    """Reorders the rows of q or k for rotary positions that turn halves of a head, not pairs.

    Args:
        weight: [num_heads * head_dim, ...]; rows 2i and 2i + 1 of a head turn together.
        num_heads: of q or k.

    Returns:
        A view [num_heads, 2, head_dim / 2, ...]; rows i and head_dim / 2 + i of a head turn
        together.
    """
    heads: Tensor = weight.unflatten(0, (num_heads, -1, 2))
    return heads.transpose(1, 2)
