"""What the cross-entropy of a row is made of."""

from dataclasses import dataclass

__all__ = ["LossOptions"]


@dataclass(frozen=True, slots=True)
class LossOptions:
    """The terms of the loss; the defaults are the plain cross-entropy."""

    ignore_index: int = -100  # target of rows without a label
    label_smoothing: float = 0.0  # share of the target that is spread over the vocabulary
    z_loss: float = 0.0  # factor of logsumexp(logits)^2
    softcap: float | None = None  # logits become softcap * tanh(logits / softcap)
    counts_correct: bool = False

    @property
    def is_plain(self) -> bool:
        return self.label_smoothing == 0.0 and self.z_loss == 0.0 and self.softcap is None
