"""By what a loss in float16 is multiplied, so that small gradients do not vanish."""

from dataclasses import dataclass

__all__ = ["LossScale"]

_STEPS_TO_GROW = 2000


@dataclass(frozen=True, slots=True)
class LossScale:
    """The rule of torch.amp.GradScaler as a value, which a checkpoint holds.

    The scale halves after a step whose gradient overflowed, and doubles after 2000 in a row whose
    gradients did not.
    """

    value: float = 2.0**16
    num_finite: int = 0  # steps since it changed

    @property
    def can_fall(self) -> bool:
        """Whether an overflow may come from the scale; at 1 it comes from the gradient itself."""
        return self.value > 1.0

    def after(self, *, is_finite: bool) -> "LossScale":
        """The scale of the next step."""
        if not is_finite:
            return LossScale(self.value / 2)
        if self.num_finite + 1 == _STEPS_TO_GROW:
            return LossScale(self.value * 2)
        return LossScale(self.value, self.num_finite + 1)
