"""A callback for the Trainer of transformers: true rates, and two guards.

It watches the forwards of the model by hooks, which it takes away when training ends. Imports
nothing of transformers before it is made.
"""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from weldlm.step_meter import StepMeter, flops_per_token

__all__ = ["TrainerCallback"]


class TrainerCallback:
    """Adds tokens_per_second, padding_share, peak_memory_gib and mfu to what is logged.

    Raises FloatingPointError in the step in which the loss is not finite. Warns where gradients are
    accumulated over micro-batches and the model's loss does not divide by the labels of all.
    """

    def __new__(cls, *, peak_flops: float | None = None, stops_at_nan: bool = True) -> Any:
        """Makes an instance of transformers.TrainerCallback.

        Args:
            peak_flops: of the device, a second; gives the MFU.
            stops_at_nan: raise where a loss is not finite; waits for the device at each step.
        """
        return _callback_class()(peak_flops, stops_at_nan)


@cache
def _callback_class() -> type[Any]:
    import transformers

    members = {name: value for name, value in vars(_Watch).items() if name != "__dict__"}
    members.pop("__weakref__", None)
    return type("WeldlmCallback", (transformers.TrainerCallback,), members)


class _Watch:
    """The methods of the callback."""

    def __init__(self, peak_flops: float | None, stops_at_nan: bool) -> None:
        self.peak_flops = peak_flops
        self.stops_at_nan = stops_at_nan
        self.meter = StepMeter(0.0)
        self.handles: list[Any] = []
        self.is_finite: Tensor | None = None
        self.is_checked = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        self.meter = StepMeter(flops_per_token(model), self.peak_flops)
        self.meter.start()
        self.is_checked = args.gradient_accumulation_steps == 1
        self.handles = [
            model.register_forward_pre_hook(self.before_forward, with_kwargs=True),
            model.register_forward_hook(self.after_forward),
        ]

    def before_forward(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if not model.training:
            return
        self.meter.count(kwargs)
        if not self.is_checked and kwargs.get("num_items_in_batch") is not None:
            self.is_checked = True
            _check_accumulation(model, kwargs)

    def after_forward(self, model: Any, args: Any, outputs: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if self.stops_at_nan and model.training and loss is not None:
            finite = loss.detach().isfinite().all()
            self.is_finite = finite if self.is_finite is None else self.is_finite & finite

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        finite, self.is_finite = self.is_finite, None
        if finite is not None and not finite:
            raise FloatingPointError(
                f"the loss of step {state.global_step} is not finite; lower the learning rate, "
                "look at this step's rows, or go on from the last checkpoint"
            )

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:
            return  # of an evaluation, or of the end
        report = self.meter.report(kwargs["model"].device)
        logs.update(report)
        state.log_history[-1].update(report)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []


def _check_accumulation(model: Any, call: dict[str, Any]) -> None:
    """Whether twice the items halve the loss, as the Trainer takes for granted."""
    items = call["num_items_in_batch"]
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            losses = [
                float(model(**call | {"num_items_in_batch": count}).loss)
                for count in (items, 2 * items)
            ]
    finally:
        for module, is_training in was_training.items():
            module.training = is_training
    if abs(losses[1] - losses[0] / 2) > 1e-2 * abs(losses[0]):
        warnings.warn(
            f"{type(model).__name__} does not divide its loss by num_items_in_batch, but the "
            "Trainer expects it to: with gradient_accumulation_steps its gradients are that many "
            "times too large. Set model.accepts_loss_kwargs = False before making the Trainer",
            RuntimeWarning,
            stacklevel=2,
        )
