"""A callback for Lightning's Trainer: true rates, and two guards.

Imports nothing of Lightning before it is made.
"""

import warnings
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from weldlm.step_meter import StepMeter, flops_per_token

__all__ = ["LightningCallback"]

_NO_LABEL = -100


class LightningCallback:
    """Logs tokens_per_second, padding_share, peak_memory_gib and mfu after each optimizer step.

    Raises FloatingPointError where the loss is not finite. Warns where gradients are accumulated
    over micro-batches with unequal numbers of labels: Lightning takes the mean of their means,
    which weighs labels unequally. Batches are mappings as transformers has them.
    """

    def __new__(cls, *, peak_flops: float | None = None, stops_at_nan: bool = True) -> Any:
        """Makes an instance of lightning.pytorch.Callback.

        Args:
            peak_flops: of the device, a second; gives the MFU.
            stops_at_nan: raise where a loss is not finite; waits for the device at each batch.
        """
        return _callback_class()(peak_flops, stops_at_nan)


@cache
def _callback_class() -> type[Any]:
    package = "lightning.pytorch" if find_spec("lightning") else "pytorch_lightning"
    members = {name: value for name, value in vars(_Watch).items() if name != "__dict__"}
    members.pop("__weakref__", None)
    return type("WeldlmCallback", (import_module(package).Callback,), members)


class _Watch:
    """The methods of the callback."""

    def __init__(self, peak_flops: float | None, stops_at_nan: bool) -> None:
        self.peak_flops = peak_flops
        self.stops_at_nan = stops_at_nan
        self.meter = StepMeter(0.0)
        self.label_counts: list[int] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.meter = StepMeter(flops_per_token(pl_module), self.peak_flops)
        self.meter.start()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(batch, Mapping):
            self.meter.count(batch)
            labels = batch.get("labels")
            if trainer.accumulate_grad_batches > 1 and isinstance(labels, Tensor):
                self.label_counts.append(int((labels != _NO_LABEL).sum()))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if self.stops_at_nan and isinstance(loss, Tensor) and not torch.isfinite(loss).all():
            raise FloatingPointError(
                f"the loss of batch {batch_idx} is not finite; lower the learning rate, "
                "look at this batch's rows, or go on from the last checkpoint"
            )
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._check_accumulation()
        pl_module.log_dict(self.meter.report(pl_module.device))

    def _check_accumulation(self) -> None:
        counts, self.label_counts = self.label_counts, []
        if len(set(counts)) > 1:
            warnings.warn(
                f"micro-batches of one step have {min(counts)} to {max(counts)} labels, and "
                "Lightning weighs them equally; divide the summed loss of each by the labels of "
                "all, or train with accumulate_grad_batches=1",
                RuntimeWarning,
                stacklevel=2,
            )
