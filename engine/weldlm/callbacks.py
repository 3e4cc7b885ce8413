"""What a training run tells others while it runs: reports, and the callbacks that take them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from weldlm.train_settings import TrainSettings

__all__ = ["Callback", "EvalReport", "StartReport", "StepReport", "TrainResult"]


@dataclass(frozen=True, slots=True)
class StartReport:
    """A run is about to take its first step."""

    settings: TrainSettings  # as resolved: nothing in it is None that the run needs
    first_step: int  # steps done before; 0 unless resumed
    num_steps: int  # steps in all
    num_parameters: int
    tokens_per_step: float  # of the first step; others differ where rows are examples
    device: str
    resumed_from: Path | None
    flops: float = 0.0  # floating-point operations of the steps to come, about
    memory_bytes: int = 0  # of the device, at least


@dataclass(frozen=True, slots=True)
class StepReport:
    """An optimizer step is done."""

    step: int  # steps done
    num_steps: int  # steps in all
    loss: float  # mean over the step's labels, nats
    lr: float
    grad_norm: float  # before clipping
    tokens: int  # learned from so far, in the whole run
    tokens_per_second: float  # of this step
    elapsed: float  # seconds of training so far, in the whole run
    step_seconds: float
    data_seconds: float = 0.0  # of it, or of the step before, that drawing its rows took
    padding_share: float = 0.0  # of what passed through the model
    peak_memory: int = 0  # most bytes so far: of the GPU's tensors, or of the process
    mfu: float | None = None  # share of the settings' peak_tflops


@dataclass(frozen=True, slots=True)
class EvalReport:
    """A validation is done."""

    step: int  # steps done
    loss: float  # mean over the labels, nats
    bits_per_byte: float | None  # loss / ln 2 * tokens per byte of the set; None if not known
    num_labels: int
    metrics: Mapping[str, float] = field(default_factory=dict)  # what the run's judge found


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended."""

    step: int  # steps done
    num_steps: int  # steps in all
    loss: float | None  # of the last step taken now; None where none was
    valid: EvalReport | None  # the last validation made now
    checkpoint: Path  # the newest one
    signal_number: int | None  # of the signal that interrupted the run
    best_checkpoint: Path | None = None  # where the settings' best_metric was best
    is_out_of_patience: bool = False  # the run ended early, as the settings' patience asks

    @property
    def is_interrupted(self) -> bool:
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """0, or 128 + the number of the signal."""
        return 0 if self.signal_number is None else 128 + self.signal_number


class Callback:
    """Takes a run's reports; override what you need.

    Of a run on several ranks the first alone tells its callbacks, and those that ask for it
    are told on every rank.
    """

    is_for_every_rank: ClassVar[bool] = False

    def on_start(self, report: StartReport) -> None:
        """The run is about to take its first step."""

    def on_step(self, report: StepReport) -> None:
        """An optimizer step is done."""

    def on_eval(self, report: EvalReport) -> None:
        """A validation is done."""

    def on_save(self, checkpoint: Path) -> None:
        """A checkpoint is in its place."""

    def on_end(self, result: TrainResult | None) -> None:
        """The run is over; None where an error ended it."""
