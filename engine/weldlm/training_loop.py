"""The loop itself: steps over a packing plan, validation, checkpoints."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from weldlm.callbacks import Callback, EvalReport, StepReport, TrainResult
from weldlm.checkpoint import (
    Best,
    RunState,
    checkpoint_folder,
    read_state,
    restore,
    save_checkpoint,
)
from weldlm.ema import Ema
from weldlm.heads import Model
from weldlm.interrupt import StopRequest
from weldlm.metrics import MetricsFile
from weldlm.objectives import MicroBatch
from weldlm.optim import learning_rate, set_learning_rate
from weldlm.token_loss import accumulate_gradients, mean_loss
from weldlm.train_settings import TrainSettings
from weldlm.training_data import TrainingData
from weldlm.trouble import MOST_SKIPS, REMEMBERED_LOSSES, Trouble, dump_trouble, find_trouble

__all__ = ["Judge", "TrainingLoop", "evaluate"]

_logger = logging.getLogger(__name__)

# measures a model in the way of its task, beside the loss: accuracy and the like by name
Judge = Callable[[Model], Mapping[str, float]]


@dataclass(slots=True)
class TrainingLoop:
    """One run, from where `state` stands to its last step or a request to stop."""

    state: RunState
    model: Model
    optimizer: Optimizer
    ema: Ema | None
    data: TrainingData
    valid: TrainingData | None
    judge: Judge | None
    out: Path
    metrics: MetricsFile
    callbacks: Sequence[Callback]
    stop: StopRequest
    checkpoint: Path | None  # the newest one
    next_batches: tuple[int, list[MicroBatch]] | None = None  # and the step they are for
    last_step: StepReport | None = None
    last_eval: EvalReport | None = None

    @property
    def settings(self) -> TrainSettings:
        return self.state.settings

    @property
    def num_steps(self) -> int:
        return self.settings.steps or 0

    def run(self) -> TrainResult:
        """Trains, and saves a checkpoint of the last step that was finished.

        Raises:
            FloatingPointError: loss or gradient is not finite; weights and checkpoints are those
                of the step before.
            OSError: a checkpoint could not be written.
        """
        self.model.train()
        settings = self.settings
        may_roll_back = "roll_back" in (settings.on_not_finite, settings.on_spike)
        if self.checkpoint is None and (settings.minutes is not None or may_roll_back):
            self._save()  # keeps the number of steps that was measured
        is_saved = self.checkpoint is not None
        if self._evaluate_if_due():
            self._save()
        while not self._is_over and not self.stop:
            self._take_step()
            is_best = self._evaluate_if_due()
            is_saved = self._is_due(self.settings.save_every) or bool(self.stop) or is_best
            if is_saved:
                self._save()
        if not is_saved:
            self._save()
        if self.ema is not None:
            self.ema.apply()
        return self._result()

    @property
    def _is_over(self) -> bool:
        return self.state.step >= self.num_steps or self._is_out_of_patience

    @property
    def _is_out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.state.num_worse >= patience

    def _take_step(self) -> None:
        begin = time.perf_counter()
        step = self.state.step
        if step in self.state.skipped:  # it was rolled back over
            self.state = replace(self.state, step=step + 1)
            return
        self.optimizer.zero_grad(set_to_none=True)
        batches = self._take_batches(step)
        loss, grad_norm = self._gradient(batches)
        if self._is_overflow(loss, grad_norm):
            self._skip_overflow()
            return
        recent = self.state.recent_losses
        trouble = find_trouble(step + 1, loss, grad_norm, recent, self.settings)
        if trouble is not None:
            self._answer(trouble, batches)
            return
        lr = self._update(step, grad_norm)
        scale = self.state.loss_scale
        seconds = time.perf_counter() - begin
        num_tokens = sum(batch.num_tokens for batch in batches)
        self.state = replace(
            self.state,
            step=step + 1,
            elapsed=self.state.elapsed + seconds,
            tokens=self.state.tokens + num_tokens,
            num_updates=self.state.num_updates + 1,
            loss_scale=None if scale is None else scale.after(is_finite=True),
            recent_losses=(*recent, loss)[-REMEMBERED_LOSSES:],
        )
        self._report_step(loss, grad_norm, lr, seconds, num_tokens)

    def _update(self, step: int, grad_norm: float) -> float:
        """Clips and takes the optimizer's step; returns the learning rate."""
        clip_norm = self.settings.clip_norm
        if clip_norm is not None and grad_norm > clip_norm:
            norm = torch.tensor(grad_norm)
            clip_grads_with_norm_(list(self.model.parameters()), clip_norm, norm, foreach=True)
        lr = learning_rate(step, self.settings)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        return lr

    def _is_overflow(self, loss: float, grad_norm: float) -> bool:
        """Whether the loss scale may be why a step is not finite."""
        scale = self.state.loss_scale
        is_finite = math.isfinite(loss) and math.isfinite(grad_norm)
        return scale is not None and scale.can_fall and not is_finite

    def _skip_overflow(self) -> None:
        assert self.state.loss_scale is not None
        step, scale = self.state.step + 1, self.state.loss_scale.after(is_finite=False)
        self.optimizer.zero_grad(set_to_none=True)
        self.state = replace(self.state, step=step, loss_scale=scale)
        _logger.warning(
            "step %d: float16 overflowed; skipped it, the loss scale falls to %g", step, scale.value
        )

    def _answer(self, trouble: Trouble, batches: Sequence[MicroBatch]) -> None:
        """Stops, skips the step, or goes back to the last checkpoint."""
        step = self.state.step
        skipped = (*self.state.skipped, step)
        is_stopped = set(range(step - MOST_SKIPS, step + 1)) <= set(skipped)
        where = dump_trouble(self.out, trouble, batches)
        if trouble.action == "stop" or is_stopped:
            raise self._stopped(trouble.step, trouble.what, f"{trouble.advice}; its rows: {where}")
        self.optimizer.zero_grad(set_to_none=True)
        state = replace(self.state, step=step + 1)
        if trouble.action == "roll_back":
            assert self.checkpoint is not None
            restore(self.checkpoint, model=self.model, optimizer=self.optimizer, ema=self.ema)
            state = read_state(self.checkpoint)
            self.metrics.cut(state.step, state.evaluated_step)
        self.state = replace(state, settings=self.settings, skipped=skipped)
        what = "skipped it" if trouble.action == "skip" else f"went back to step {state.step}"
        _logger.warning("step %d: %s; %s; its rows: %s", trouble.step, trouble.what, what, where)

    def _draw_batches(self, step: int) -> tuple[int, list[MicroBatch]]:
        return step, self.data.micro_batches(step)

    def _take_batches(self, step: int) -> list[MicroBatch]:
        if self.next_batches is None or self.next_batches[0] != step:
            self.next_batches = self._draw_batches(step)
        return self.next_batches[1]

    def _gradient(self, batches: Sequence[MicroBatch]) -> tuple[float, float]:
        """Fills `.grad`; returns the loss and the gradient's norm."""
        dtype = self.settings.dtype
        assert dtype != "auto"
        scale = 1.0 if self.state.loss_scale is None else self.state.loss_scale.value
        mean = accumulate_gradients(self.model, batches, dtype=dtype, scale=scale)
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        if scale != 1.0:
            torch._foreach_mul_(gradients, 1.0 / scale)
        norm = get_total_norm(gradients, foreach=True)
        self.next_batches = self._draw_batches(self.state.step + 1)  # while the device works
        # the one place where a step waits for the device
        loss, grad_norm = torch.stack([mean.double(), norm.double()]).tolist()
        return loss, grad_norm

    def _report_step(
        self, loss: float, grad_norm: float, lr: float, seconds: float, num_tokens: int
    ) -> None:
        report = StepReport(
            step=self.state.step,
            num_steps=self.num_steps,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            tokens=self.state.tokens,
            tokens_per_second=num_tokens / seconds,
            elapsed=self.state.elapsed,
            step_seconds=seconds,
        )
        self.last_step = report
        self.metrics.add_step(report)
        self._tell(lambda callback: callback.on_step(report))

    def _is_due(self, every: int | None) -> bool:
        """Whether what happens `every` so many steps, and after the last, happens now."""
        step = self.state.step
        return step == self.num_steps or (every is not None and step > 0 and step % every == 0)

    def _evaluate_if_due(self) -> bool:
        """Validates unless this step's validation is done; a request to stop breaks it off.

        Returns whether the validation was the best so far.
        """
        is_done = self.state.evaluated_step == self.state.step
        if self.valid is None or is_done or not self._is_due(self.settings.eval_every):
            return False
        with nullcontext() if self.ema is None else self.ema.applied():
            report = evaluate(
                self.model,
                self.valid,
                self.settings,
                step=self.state.step,
                stop=self.stop,
                judge=self.judge,
            )
        if report is None:
            return False
        if not math.isfinite(report.loss):
            raise self._stopped(
                self.state.step,
                f"the validation loss is {report.loss}",
                "expected finite numbers: try a lower lr or clip_norm, or dtype float32",
            )
        self.state = replace(self.state, evaluated_step=self.state.step)
        is_best = self._note_best(report)
        self.last_eval = report
        self.metrics.add_eval(report)
        self._tell(lambda callback: callback.on_eval(report))
        return is_best

    def _note_best(self, report: EvalReport) -> bool:
        name, best = self.settings.best_metric, self.state.best
        if name is None:
            return False
        values = {"loss": report.loss, **report.metrics}
        if name not in values:
            raise ValueError(
                f"best_metric is {name!r}, but a validation gives {', '.join(values)}; expected "
                "one of these"
            )
        sign = 1.0 if self.settings.best_is == "lowest" else -1.0
        is_best = best is None or sign * values[name] < sign * best.value
        if is_best:
            found = Best(report.step, values[name])
            self.state = replace(self.state, best=found, num_worse=0)
        else:
            self.state = replace(self.state, num_worse=self.state.num_worse + 1)
        return is_best

    def _stopped(self, step: int, what: str, advice: str) -> FloatingPointError:
        return FloatingPointError(
            f"step {step}: {what}; {advice}; newest checkpoint: {self.checkpoint or 'none'}"
        )

    def _save(self) -> None:
        self.metrics.sync()
        checkpoint = save_checkpoint(
            self.out,
            self.state,
            model=self.model,
            optimizer=self.optimizer,
            ema=self.ema,
            keep=self.settings.keep_checkpoints,
        )
        self.checkpoint = checkpoint
        self._tell(lambda callback: callback.on_save(checkpoint))

    def _tell(self, what: Callable[[Callback], None]) -> None:
        for callback in self.callbacks:
            what(callback)

    def _result(self) -> TrainResult:
        assert self.checkpoint is not None
        best = self.state.best
        is_validated = self.valid is None or self.state.evaluated_step == self.state.step
        is_complete = self._is_over and (is_validated or self._is_out_of_patience)
        return TrainResult(
            step=self.state.step,
            num_steps=self.num_steps,
            loss=self.last_step.loss if self.last_step else None,
            valid=self.last_eval,
            checkpoint=self.checkpoint,
            signal_number=None if is_complete else self.stop.signal_number,
            best_checkpoint=None if best is None else checkpoint_folder(self.out, best.step),
            is_out_of_patience=self._is_out_of_patience,
        )


def evaluate(
    model: Model,
    data: TrainingData,
    settings: TrainSettings,
    *,
    step: int,
    stop: StopRequest,
    judge: Judge | None = None,
) -> EvalReport | None:
    """Returns the mean loss over the validation data; None where it was stopped."""
    assert settings.dtype != "auto"
    found = mean_loss(
        model, data.validation_batches(), dtype=settings.dtype, is_stopped=lambda: bool(stop)
    )
    if found is None:
        return None
    loss, num_labels = found
    tokens_per_byte = data.tokens_per_byte
    bits_per_byte = None if tokens_per_byte is None else loss / math.log(2) * tokens_per_byte
    metrics = {} if judge is None else _judge(model, judge)
    return EvalReport(step, loss, bits_per_byte, num_labels, metrics)


def _judge(model: Model, judge: Judge) -> dict[str, float]:
    """What the judge finds, without dropout and gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return dict(judge(model))
    finally:
        model.train(was_training)
