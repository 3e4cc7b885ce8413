"""The loop itself: steps over a packing plan, validation, checkpoints."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer

from weldlm.callbacks import Callback, EvalReport, StepReport, TrainResult
from weldlm.checkpoint import (
    Best,
    RunState,
    Saver,
    checkpoint_folder,
    read_state,
    restore,
)
from weldlm.distributed import Ranks, Replica, StopVote
from weldlm.ema import Ema
from weldlm.heads import Model
from weldlm.metrics import MetricsFile
from weldlm.optim import learning_rate, set_learning_rate
from weldlm.step_meter import flops_per_token, peak_memory
from weldlm.step_share import StepShare, draw_share
from weldlm.token_loss import accumulate_gradients
from weldlm.train_settings import TrainSettings
from weldlm.training_data import TrainingData
from weldlm.trouble import MOST_SKIPS, REMEMBERED_LOSSES, Trouble, dump_trouble, find_trouble
from weldlm.validation import Judge, evaluate

__all__ = ["TrainingLoop"]

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class TrainingLoop:
    """One run, from where `state` stands to its last step or a request to stop."""

    state: RunState
    replica: Replica
    optimizer: Optimizer
    ema: Ema | None
    data: TrainingData
    valid: TrainingData | None
    judge: Judge | None
    out: Path
    metrics: MetricsFile
    callbacks: Sequence[Callback]
    stop: StopVote
    saver: Saver
    checkpoint: Path | None  # the newest one
    next_share: StepShare | None = None
    last_step: StepReport | None = None
    last_eval: EvalReport | None = None

    @property
    def model(self) -> Model:
        return self.replica.model

    @property
    def ranks(self) -> Ranks:
        return self.replica.ranks

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
        is_saved = self.checkpoint is not None
        if not is_saved and (settings.minutes is not None or may_roll_back):
            self._save()  # keeps the number of steps that was measured
            is_saved = True
        if self._evaluate_if_due():
            self._save()
        self.stop.poll()
        while not self._is_over and not self.stop:
            self._take_step()
            is_best = self._evaluate_if_due()
            is_saved = self.stop.poll() or self._is_due(self.settings.save_every) or is_best
            if is_saved:
                self._save()
        if not is_saved:
            self._save()
        self._finish_save()
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
        share = self._take_share(step)
        loss, grad_norm = self._gradient(share)
        if self._is_overflow(loss, grad_norm):
            self._skip_overflow()
            return
        recent = self.state.recent_losses
        trouble = find_trouble(step + 1, loss, grad_norm, recent, self.settings)
        if trouble is not None:
            self._answer(trouble, share)
            return
        lr = self._update(step, grad_norm)
        scale = self.state.loss_scale
        seconds = time.perf_counter() - begin
        self.state = replace(
            self.state,
            step=step + 1,
            elapsed=self.state.elapsed + seconds,
            tokens=self.state.tokens + share.num_tokens,
            num_updates=self.state.num_updates + 1,
            loss_scale=None if scale is None else scale.after(is_finite=True),
            recent_losses=(*recent, loss)[-REMEMBERED_LOSSES:],
        )
        self._report_step(loss, grad_norm, lr, seconds, share)

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
        self._warn(
            "step %d: float16 overflowed; skipped it, the loss scale falls to %g", step, scale.value
        )

    def _answer(self, trouble: Trouble, share: StepShare) -> None:
        """Stops, skips the step, or goes back to the last checkpoint."""
        step = self.state.step
        skipped = (*self.state.skipped, step)
        is_stopped = set(range(step - MOST_SKIPS, step + 1)) <= set(skipped)
        of_ranks = self.ranks.collect([batch.sample_ids.tolist() for batch in share.batches])
        ids = [ids for of_rank in of_ranks for ids in of_rank]
        where = self.ranks.ask_first(lambda: dump_trouble(self.out, trouble, ids))
        if trouble.action == "stop" or is_stopped:
            raise self._stopped(trouble.step, trouble.what, f"{trouble.advice}; its rows: {where}")
        self.optimizer.zero_grad(set_to_none=True)
        state = replace(self.state, step=step + 1)
        if trouble.action == "roll_back":
            self._finish_save()
            assert self.checkpoint is not None
            restore(self.checkpoint, replica=self.replica, optimizer=self.optimizer, ema=self.ema)
            state = read_state(self.checkpoint)
            self.metrics.cut(state.step, state.evaluated_step)
        self.state = replace(state, settings=self.settings, skipped=skipped)
        what = "skipped it" if trouble.action == "skip" else f"went back to step {state.step}"
        self._warn("step %d: %s; %s; its rows: %s", trouble.step, trouble.what, what, where)

    def _warn(self, message: str, *values: object) -> None:
        if self.ranks.is_first:
            _logger.warning(message, *values)

    def _take_share(self, step: int) -> StepShare:
        if self.next_share is None or self.next_share.step != step:
            self.next_share = draw_share(self.data, step, self.replica)
        return self.next_share

    def _gradient(self, share: StepShare) -> tuple[float, float]:
        """Fills `.grad`; returns the loss and the gradient's norm."""
        dtype = self.settings.dtype
        assert dtype != "auto"
        scale = 1.0 if self.state.loss_scale is None else self.state.loss_scale.value
        mean = accumulate_gradients(
            self.replica.module,
            share.batches,
            dtype=dtype,
            scale=scale,
            num_labels=share.labels_per_rank,
            before_last=self.replica.gathering,
        )
        if scale != 1.0:
            weights = self.model.parameters()
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            torch._foreach_mul_(gradients, 1.0 / scale)
        norm = self.replica.gradient_norm()
        # while the device works
        self.next_share = draw_share(self.data, self.state.step + 1, self.replica)
        # the one place where a step waits for the device
        loss, grad_norm = torch.stack([mean.double(), norm.double()]).tolist()
        loss = self.ranks.mean(loss)
        return loss, grad_norm

    def _report_step(
        self, loss: float, grad_norm: float, lr: float, seconds: float, share: StepShare
    ) -> None:
        report = StepReport(
            step=self.state.step,
            num_steps=self.num_steps,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            tokens=self.state.tokens,
            tokens_per_second=share.num_tokens / seconds,
            elapsed=self.state.elapsed,
            step_seconds=seconds,
            data_seconds=share.seconds,
            padding_share=share.num_padding / max(share.num_tokens + share.num_padding, 1),
            peak_memory=peak_memory(next(self.model.parameters()).device),
            mfu=self._mfu(share.num_tokens / seconds),
        )
        self.last_step = report
        self.metrics.add_step(report)
        self._tell(lambda callback: callback.on_step(report))

    def _mfu(self, tokens_per_second: float) -> float | None:
        """The share of the devices' peak: six operations a weight and token (Chowdhery 2022)."""
        peak = self.settings.peak_tflops
        if peak is None:
            return None
        operations = tokens_per_second * flops_per_token(self.model)
        return operations / (peak * 1e12 * self.ranks.world_size)

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
                self.replica,
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
        self._finish_save()
        return FloatingPointError(
            f"step {step}: {what}; {advice}; newest checkpoint: {self.checkpoint or 'none'}"
        )

    def _save(self) -> None:
        """Begins a checkpoint once the one before is in its place; mostly it is there at once."""
        self._finish_save()
        self.metrics.sync()
        self.saver.begin(self.state)
        if not self.settings.async_save:
            self._finish_save()

    def _finish_save(self) -> None:
        checkpoint = self.saver.finish()
        if checkpoint is not None:
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
