"""Trainer: prepares a run or finds where it stopped, then lets the loop take its steps.

Everything a step does follows from its number, the settings and the state before it, so a run that
was killed and resumed equals one that was not, bit for bit (same machine, threads and build).
"""

import dataclasses
import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import torch

from weldlm.atomic_file import replace_text
from weldlm.callbacks import Callback, StartReport, TrainResult
from weldlm.checkpoint import (
    RunState,
    check_same_run,
    config_values,
    newest_valid,
    read_state,
    restore,
)
from weldlm.data import PackingPlan, TokenShards
from weldlm.heads import CausalLM
from weldlm.interrupt import StopRequest, catch_signals
from weldlm.memory import require_training_memory
from weldlm.metrics import MetricsFile
from weldlm.optim import build_optimizer
from weldlm.pacing import count_affordable_steps
from weldlm.precision import resolve_dtype
from weldlm.sealed_folder import lock_folder, remove_drafts
from weldlm.train_settings import TrainSettings
from weldlm.training_loop import TrainingLoop

__all__ = ["Trainer"]

_logger = logging.getLogger(__name__)

_MOST_WARMUP_STEPS = 100


class Trainer:
    """Trains a causal language model on token shards."""

    def __init__(
        self,
        model: CausalLM,
        data: TokenShards,
        settings: TrainSettings,
        out: str | Path,
        *,
        valid: TokenShards | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Checks that everything fits together; nothing is written yet.

        Args:
            model: with fp32 weights, on the device that trains.
            data: the documents to learn from.
            settings: see TrainSettings.
            out: folder of the checkpoints and of metrics.jsonl.
            valid: the documents to validate on.
            callbacks: take the run's reports, in this order.

        Raises:
            ValueError: the settings, the data and the model do not fit together.
        """
        _check_model(model, settings)
        require_training_memory(model.config, settings, next(model.parameters()).device)
        for shards in (data, *([] if valid is None else [valid])):
            _check_data(shards, model)
        self.model = model
        self.data = data
        self.valid = valid
        self.settings = settings
        self.out = Path(out)
        self.callbacks = tuple(callbacks)

    def fit(self, *, resume: bool | Literal["auto"] = False) -> TrainResult:
        """Trains to the last step, or until SIGINT or SIGTERM, and saves a checkpoint.

        Args:
            resume: True goes on from the newest whole checkpoint in `out`; "auto" does so where
                there is one; False wants an `out` without checkpoints.

        Raises:
            FileExistsError: `resume` is False and there are checkpoints.
            FileNotFoundError: `resume` is True and there is none.
            ValueError: no checkpoint is whole, or it belongs to another run.
            FloatingPointError: loss or gradient was not finite.
            OSError: a checkpoint could not be written.
        """
        result = None
        try:
            with lock_folder(self.out), catch_signals() as stop:
                remove_drafts(self.out)
                result = self._train(self._find_checkpoint(resume), stop)
                return result
        finally:
            for callback in self.callbacks:
                callback.on_end(result)

    def _train(self, checkpoint: Path | None, stop: StopRequest) -> TrainResult:
        state = self._start_state(checkpoint)
        settings = state.settings
        optimizer = build_optimizer(self.model, settings)
        torch.manual_seed(settings.seed)
        if checkpoint is not None:
            self._verify_data()
            restore(checkpoint, model=self.model, optimizer=optimizer)
        self._tell_start(state, checkpoint)
        metrics_file = MetricsFile(
            self.out / "metrics.jsonl", step=state.step, evaluated_step=state.evaluated_step
        )
        with closing(metrics_file) as metrics:
            loop = TrainingLoop(
                state=state,
                model=self.model,
                optimizer=optimizer,
                plan=self._plan(settings),
                valid=self._valid_plan(settings),
                out=self.out,
                metrics=metrics,
                callbacks=self.callbacks,
                stop=stop,
                checkpoint=checkpoint,
            )
            return loop.run()

    def _find_checkpoint(self, resume: bool | Literal["auto"]) -> Path | None:
        search = newest_valid(self.out)
        if resume is False:
            if search.newest or search.damaged:
                raise FileExistsError(
                    f"{self.out} already holds checkpoints; resume from them or choose another "
                    "out folder"
                )
            return None
        for problem in search.damaged:
            _logger.warning("passed over a damaged checkpoint: %s", problem)
        if search.newest is None and search.damaged:
            raise ValueError(
                f"no checkpoint in {self.out} is whole ({search.damaged[0]}); remove them to start "
                "over or choose another out folder"
            )
        if search.newest is None and resume is True:
            raise FileNotFoundError(f"{self.out} holds no checkpoint; start without resume")
        return search.newest

    def _start_state(self, checkpoint: Path | None) -> RunState:
        """The state to go on from, with settings resolved; run.json keeps a record of it."""
        saved = read_state(checkpoint) if checkpoint else None
        state = RunState(
            step=0,
            elapsed=0.0,
            evaluated_step=0,
            settings=self._resolve(saved.settings if saved else None),
            config=config_values(self.model.config),
            data_fingerprint=self.data.fingerprint,
        )
        if saved is not None and checkpoint is not None:
            check_same_run(saved, state, where=checkpoint)
            state = dataclasses.replace(saved, settings=state.settings)
        replace_text(self.out / "run.json", state.to_json())
        return state

    def _resolve(self, saved: TrainSettings | None) -> TrainSettings:
        """Fills in what the settings leave open; a resumed run keeps what it had found out."""
        given = self.settings
        settings = given.changed(
            row_length=given.row_length or self.model.config.context_length,
            micro_batch_rows=given.micro_batch_rows or given.rows_per_step,
        )
        if saved is None:
            settings = self._count_steps(
                settings.changed(dtype=resolve_dtype(given.dtype, self._device))
            )
        else:
            _tell_kept_steps(given, saved)
            settings = settings.changed(
                steps=given.steps if given.minutes is None else saved.steps,
                warmup_steps=_first_known(given.warmup_steps, saved.warmup_steps),
                dtype=saved.dtype if given.dtype == "auto" else given.dtype,
            )
        tenth = (settings.steps or 0) // 10
        return settings.changed(
            warmup_steps=_first_known(settings.warmup_steps, min(_MOST_WARMUP_STEPS, tenth)),
            save_every=given.save_every or max(tenth, 1),
        )

    def _count_steps(self, settings: TrainSettings) -> TrainSettings:
        """Turns a budget of minutes into steps, where one is given."""
        if settings.minutes is None:
            return settings
        plan, valid = self._plan(settings), self._valid_plan(settings)
        affordable = count_affordable_steps(self.model, plan, valid, settings)
        return settings.changed(steps=min(affordable, settings.steps or affordable))

    def _plan(self, settings: TrainSettings) -> PackingPlan:
        assert settings.row_length is not None
        return PackingPlan(self.data, row_length=settings.row_length, seed=settings.seed)

    def _valid_plan(self, settings: TrainSettings) -> PackingPlan | None:
        assert settings.row_length is not None
        if self.valid is None:
            return None
        return PackingPlan(self.valid, row_length=settings.row_length, seed=None)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _verify_data(self) -> None:
        """A run that goes on must go on with the tokens it began with."""
        self.data.verify()
        if self.valid is not None:
            self.valid.verify()

    def _tell_start(self, state: RunState, checkpoint: Path | None) -> None:
        report = StartReport(
            settings=state.settings,
            first_step=state.step,
            num_steps=state.settings.steps or 0,
            num_parameters=sum(weight.numel() for weight in self.model.parameters()),
            device=str(self._device),
            resumed_from=checkpoint,
        )
        for callback in self.callbacks:
            callback.on_start(report)


def _tell_kept_steps(given: TrainSettings, saved: TrainSettings) -> None:
    if given.minutes is not None and given.minutes != saved.minutes:
        measured = "" if saved.minutes is None else f" that were measured for {saved.minutes:g}"
        _logger.warning(
            "minutes is %g, but the run keeps the %d steps%s; for more, start anew in another "
            "folder",
            given.minutes,
            saved.steps,
            measured,
        )


def _first_known(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _check_model(model: CausalLM, settings: TrainSettings) -> None:
    for name, weight in model.named_parameters():
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the weight {name} is {weight.dtype}; training keeps weights in torch.float32: "
                "load the model in it and choose the dtype of the products in the settings"
            )
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("no weight of the model requires a gradient; expected at least one")
    context_length = model.config.context_length
    if (settings.row_length or 0) > context_length:
        raise ValueError(
            f"row_length is {settings.row_length}; expected at most the model's context_length, "
            f"{context_length}"
        )


def _check_data(shards: TokenShards, model: CausalLM) -> None:
    if shards.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"{shards.folder} has vocab_size {shards.vocab_size}; expected at most the model's, "
            f"{model.config.vocab_size}: was it encoded with the model's tokenizer?"
        )
    if shards.lengths.max() < 2:
        raise ValueError(
            f"{shards.folder} has no document of two tokens; expected one, to predict the second "
            "from the first"
        )
