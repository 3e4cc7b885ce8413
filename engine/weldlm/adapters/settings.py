"""LoraSettings: what an adapter is before it has weights."""

import math
from dataclasses import dataclass

from weldlm.field_types import require_integers

__all__ = ["LoraSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Size and place of a LoRA adapter; biases are never trained with it (PEFT's bias "none")."""

    rank: int = 8  # of the change of each layer's weight
    alpha: float = 16.0  # the change is scaled by alpha / rank
    dropout: float = 0.0  # share of inputs that the adapter does not see in training
    # "all", "attention", "cross_attention", "mlp"; layers by our names ("attention.qkv") or those
    # of the Hugging Face format ("q_proj"); patterns over our full names ("*.blocks.1.*")
    targets: tuple[str, ...] = ("attention",)
    use_rslora: bool = False  # the change is scaled by alpha / sqrt(rank)
    trains_head: bool = False  # a classifier's own weights are trained too

    def __post_init__(self) -> None:
        require_integers(self)
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; expected at least 1")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha is {self.alpha}; expected a number above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 or more and less than 1")
        if isinstance(self.targets, str) or not self.targets:
            raise ValueError(
                f"targets is {self.targets!r}; expected a tuple of names, such as ('attention',)"
            )
