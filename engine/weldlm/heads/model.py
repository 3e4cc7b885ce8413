"""What all models with a head share."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from weldlm.config import HeadKind, ModelConfig
from weldlm.layers import build_norm
from weldlm.packing import PackedBatch
from weldlm_kernels import activate

__all__ = ["Model", "Projection", "Transform", "pool"]


class Projection(NamedTuple):
    """The last layer before a loss over classes or tokens: rows, and what they are scored with."""

    hidden: Tensor  # [N, hidden_size]
    weight: Tensor  # [num_classes, hidden_size]
    bias: Tensor | None  # [num_classes]
    labels: Tensor  # [N] int64, -100 where there is none
    row_weights: Tensor | None = None  # [N], a factor of the loss of each row


class Model(nn.Module):
    """A transformer with a head; `Model(config)` draws its weights."""

    kind: ClassVar[HeadKind]
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config


class Transform(nn.Module):
    """norm(activation(dense(x))), with which the heads of encoders begin."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.has_bias)
        self.norm = build_norm(config)
        self.activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(activate(self.dense(x), activation=self.activation))  # type: ignore[no-any-return]


def pool(hidden: Tensor, batch: PackedBatch, pooling: str) -> Tensor:
    """Returns the first, last or mean row of each sequence, [B, hidden_size].

    Every sequence of the batch holds at least one token.
    """
    offsets = batch.offsets.long()
    if pooling == "first":
        return hidden[offsets[:-1]]
    if pooling == "last":
        return hidden[offsets[1:] - 1]
    # in fp32: a 16-bit sum over a long sequence loses digits
    total = torch.segment_reduce(hidden.float(), "sum", offsets=offsets, unsafe=True)
    return (total / offsets.diff().unsqueeze(1)).to(hidden.dtype)
