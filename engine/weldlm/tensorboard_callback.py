"""A run's figures for TensorBoard, beside metrics.jsonl."""

from pathlib import Path
from typing import TYPE_CHECKING

from weldlm.callbacks import Callback, EvalReport, StartReport, StepReport, TrainResult

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardCallback"]


class TensorBoardCallback(Callback):
    """Writes the scalars of steps and validations into a folder that `tensorboard` shows."""

    def __init__(self, folder: str | Path) -> None:
        """Needs the package tensorboard.

        Args:
            folder: of the event files; made where it does not exist.

        Raises:
            ImportError: the package is missing.
        """
        try:
            import tensorboard  # noqa: F401  # the writer of torch needs it
        except ImportError as error:
            raise ImportError(
                "TensorBoard is not installed; expected it for its files: pip install tensorboard"
            ) from error
        self._folder = Path(folder)
        self._writer: SummaryWriter | None = None

    def on_start(self, report: StartReport) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a killed run wrote beyond its checkpoint is purged
        self._writer = SummaryWriter(self._folder, purge_step=report.first_step + 1)

    def on_step(self, report: StepReport) -> None:
        values = {
            "train/loss": report.loss,
            "train/lr": report.lr,
            "train/grad_norm": report.grad_norm,
            "train/tokens_per_second": report.tokens_per_second,
        }
        if report.mfu is not None:
            values["train/mfu"] = report.mfu
        self._add(values, report.step)

    def on_eval(self, report: EvalReport) -> None:
        values = {"valid/loss": report.loss}
        if report.bits_per_byte is not None:
            values["valid/bits_per_byte"] = report.bits_per_byte
        values |= {f"valid/{name}": value for name, value in report.metrics.items()}
        self._add(values, report.step)

    def on_end(self, _result: TrainResult | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, values: dict[str, float], step: int) -> None:
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
