"""The loop itself: steps over a packing plan, validation, checkpoints."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from weldlm.callbacks import Callback, EvalReport, StepReport, TrainResult
from weldlm.checkpoint import RunState, save_checkpoint
from weldlm.data import PackingPlan
from weldlm.heads import CausalLM
from weldlm.interrupt import StopRequest
from weldlm.metrics import MetricsFile
from weldlm.objectives import causal_lm_labels
from weldlm.optim import learning_rate
from weldlm.packing import PackedBatch
from weldlm.token_loss import MicroBatch, accumulate_gradients, mean_loss
from weldlm.train_settings import TrainSettings

__all__ = ["TrainingLoop", "evaluate", "step_batches"]


def step_batches(plan: PackingPlan, settings: TrainSettings, step: int) -> list[MicroBatch]:
    """Returns the micro-batches of `step`, counted from 0: slices of the same rows."""
    first, end = step * settings.rows_per_step, (step + 1) * settings.rows_per_step
    size = settings.micro_batch_rows or settings.rows_per_step
    return [_labeled(plan.rows(row, min(size, end - row))) for row in range(first, end, size)]


@dataclass(slots=True)
class TrainingLoop:
    """One run, from where `state` stands to its last step or a request to stop."""

    state: RunState
    model: CausalLM
    optimizer: Optimizer
    plan: PackingPlan
    valid: PackingPlan | None
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
        if self.checkpoint is None and self.settings.minutes is not None:
            self._save()  # keeps the number of steps that was measured
        is_saved = self.checkpoint is not None
        self._evaluate_if_due()
        while self.state.step < self.num_steps and not self.stop:
            self._take_step()
            self._evaluate_if_due()
            is_saved = self._is_due(self.settings.save_every) or bool(self.stop)
            if is_saved:
                self._save()
        if not is_saved:
            self._save()
        return self._result()

    def _take_step(self) -> None:
        begin = time.perf_counter()
        step = self.state.step
        self.optimizer.zero_grad(set_to_none=True)
        loss, grad_norm = self._gradient(self._take_batches(step))
        lr = learning_rate(step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        seconds = time.perf_counter() - begin
        self.state = replace(self.state, step=step + 1, elapsed=self.state.elapsed + seconds)
        self._report_step(loss, grad_norm, lr, seconds)

    def _draw_batches(self, step: int) -> tuple[int, list[MicroBatch]]:
        return step, step_batches(self.plan, self.settings, step)

    def _take_batches(self, step: int) -> list[MicroBatch]:
        if self.next_batches is None or self.next_batches[0] != step:
            self.next_batches = self._draw_batches(step)
        return self.next_batches[1]

    def _gradient(self, batches: Sequence[MicroBatch]) -> tuple[float, float]:
        """Fills `.grad`, clipped; returns the loss and the norm before clipping."""
        dtype = self.settings.dtype
        assert dtype != "auto"
        mean = accumulate_gradients(self.model, batches, dtype=dtype)
        weights = list(self.model.parameters())
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norm = get_total_norm(gradients, foreach=True)
        self.next_batches = self._draw_batches(self.state.step + 1)  # while the device works
        # the one place where a step waits for the device
        loss, grad_norm = torch.stack([mean.double(), norm.double()]).tolist()
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise self._not_finite(
                self.state.step + 1, f"the loss is {loss} and the gradient norm {grad_norm}"
            )
        clip_norm = self.settings.clip_norm
        if clip_norm is not None and grad_norm > clip_norm:
            clip_grads_with_norm_(weights, clip_norm, norm, foreach=True)
        return loss, grad_norm

    def _report_step(self, loss: float, grad_norm: float, lr: float, seconds: float) -> None:
        tokens_per_step = self.settings.tokens_per_step
        report = StepReport(
            step=self.state.step,
            num_steps=self.num_steps,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            tokens=self.state.step * tokens_per_step,
            tokens_per_second=tokens_per_step / seconds,
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

    def _evaluate_if_due(self) -> None:
        """Validates unless this step's validation is done; a request to stop breaks it off."""
        is_done = self.state.evaluated_step == self.state.step
        if self.valid is None or is_done or not self._is_due(self.settings.eval_every):
            return
        report = evaluate(
            self.model, self.valid, self.settings, step=self.state.step, stop=self.stop
        )
        if report is None:
            return
        if not math.isfinite(report.loss):
            raise self._not_finite(self.state.step, f"the validation loss is {report.loss}")
        self.state = replace(self.state, evaluated_step=self.state.step)
        self.last_eval = report
        self.metrics.add_eval(report)
        self._tell(lambda callback: callback.on_eval(report))

    def _not_finite(self, step: int, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"step {step}: {what}; expected finite numbers: try a lower lr or clip_norm, or dtype "
            f"float32; newest checkpoint: {self.checkpoint or 'none'}"
        )

    def _save(self) -> None:
        self.metrics.sync()
        checkpoint = save_checkpoint(
            self.out,
            self.state,
            model=self.model,
            optimizer=self.optimizer,
            keep=self.settings.keep_checkpoints,
        )
        self.checkpoint = checkpoint
        self._tell(lambda callback: callback.on_save(checkpoint))

    def _tell(self, what: Callable[[Callback], None]) -> None:
        for callback in self.callbacks:
            what(callback)

    def _result(self) -> TrainResult:
        assert self.checkpoint is not None
        is_validated = self.valid is None or self.state.evaluated_step == self.state.step
        is_complete = self.state.step == self.num_steps and is_validated
        return TrainResult(
            step=self.state.step,
            num_steps=self.num_steps,
            loss=self.last_step.loss if self.last_step else None,
            valid=self.last_eval,
            checkpoint=self.checkpoint,
            signal_number=None if is_complete else self.stop.signal_number,
        )


def evaluate(
    model: CausalLM, plan: PackingPlan, settings: TrainSettings, *, step: int, stop: StopRequest
) -> EvalReport | None:
    """Returns the mean loss over the validation rows; None where it was stopped."""
    assert settings.dtype != "auto"
    batches = _valid_batches(plan, settings)
    found = mean_loss(model, batches, dtype=settings.dtype, is_stopped=lambda: bool(stop))
    if found is None:
        return None
    loss, num_labels = found
    tokens_per_byte = plan.shards.tokens_per_byte
    bits_per_byte = None if tokens_per_byte is None else loss / math.log(2) * tokens_per_byte
    return EvalReport(step, loss, bits_per_byte, num_labels)


def _valid_batches(plan: PackingPlan, settings: TrainSettings) -> Iterator[MicroBatch]:
    """The validation rows in the order of the documents; the last row may be short."""
    num_tokens = plan.shards.num_tokens
    if settings.eval_rows is not None:
        num_tokens = min(num_tokens, settings.eval_rows * plan.row_length)
    size = (settings.micro_batch_rows or settings.rows_per_step) * plan.row_length
    for begin in range(0, num_tokens, size):
        yield _labeled(plan.tokens(begin, min(begin + size, num_tokens)))


def _labeled(batch: PackedBatch) -> MicroBatch:
    return MicroBatch(batch, causal_lm_labels(batch))
