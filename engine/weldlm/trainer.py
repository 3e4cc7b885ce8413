"""Trainer: prepares a run or finds where it stopped, then lets the loop take its steps.

Everything a step does follows from its number, the settings and the state before it, so a run that
was killed and resumed equals one that was not, bit for bit (same machine, threads and build).
"""

import dataclasses
import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

import torch

from weldlm.adapters import adapter_names, frozen_fingerprint
from weldlm.atomic_file import replace_text
from weldlm.callbacks import Callback, StartReport, TrainResult
from weldlm.checkpoint import (
    RunState,
    Saver,
    check_same_run,
    config_values,
    newest_valid,
    read_state,
    restore,
)
from weldlm.data import TokenShards
from weldlm.disk_space import require_disk_space
from weldlm.distributed import Ranks, Replica, StopVote, build_replica, join_ranks
from weldlm.ema import Ema
from weldlm.heads import Model
from weldlm.interrupt import catch_signals
from weldlm.loss_scale import LossScale
from weldlm.memory import WeightCount, require_training_memory
from weldlm.metrics import MetricsFile
from weldlm.objectives import CausalLMObjective, ExampleSet, TokenObjective
from weldlm.optim import build_optimizer
from weldlm.pacing import count_affordable_steps
from weldlm.precision import Dtype, resolve_dtype
from weldlm.sealed_folder import lock_folder, remove_drafts
from weldlm.train_settings import OptimizerName, TrainSettings
from weldlm.training_data import ExampleBatches, TokenRows, TrainingData
from weldlm.training_loop import TrainingLoop
from weldlm.transformer import set_activation_checkpointing
from weldlm.validation import Judge

__all__ = ["Trainer"]

_logger = logging.getLogger(__name__)

_MOST_WARMUP_STEPS = 100
# what the optimizer keeps of nearly every weight that is trained
_AVERAGES_IN_CHECKPOINT: dict[OptimizerName, int] = {"adamw": 2, "muon": 1, "adafactor": 0}


class Trainer:
    """Trains a model on token shards, with an objective, or on labelled examples."""

    def __init__(
        self,
        model: Model,
        data: TokenShards | ExampleSet,
        settings: TrainSettings,
        out: str | Path,
        *,
        objective: TokenObjective | None = None,
        valid: TokenShards | ExampleSet | None = None,
        judge: Judge | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Checks that everything fits together; nothing is written yet.

        Args:
            model: with fp32 weights, on the device that trains, and the head that the data asks.
            data: the documents or examples to learn from.
            settings: see TrainSettings.
            out: folder of the checkpoints and of metrics.jsonl.
            objective: what is asked of token shards; the next token where None.
            valid: the documents or examples to validate on.
            judge: measures the model with every validation, in the way of its task.
            callbacks: take the run's reports, in this order; on the first of several ranks.

        Raises:
            ValueError: the settings, the data and the model do not fit together.
        """
        self.model = model
        self.data = data
        self.valid = valid
        self.objective = objective
        self.settings = _resolve_rows(settings, model, objective)
        self.judge = judge
        self.out = Path(out)
        self.callbacks = tuple(callbacks)
        self._memory_bytes = 0
        self._check()

    def fit(self, *, resume: bool | Literal["auto"] = False) -> TrainResult:
        """Trains to the last step, or until SIGINT or SIGTERM, and saves a checkpoint.

        On several ranks all of them call it, and the folder `out` is one that all of them see.

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
        result, told = None, self.callbacks
        try:
            with ExitStack() as stack:
                ranks = stack.enter_context(join_ranks(self._device, self.settings.parallel))
                told = self._told(ranks)
                ranks.ask_first(lambda: stack.enter_context(lock_folder(self.out)))
                stop = stack.enter_context(catch_signals())
                ranks.ask_first(lambda: remove_drafts(self.out))
                checkpoint = ranks.ask_first(lambda: self._find_checkpoint(resume))
                result = self._train(checkpoint, StopVote(stop, ranks))
                return result
        finally:
            for callback in told:
                callback.on_end(result)

    def _train(self, checkpoint: Path | None, stop: StopVote) -> TrainResult:
        set_activation_checkpointing(self.model, self.settings.checkpoint_activations)
        saved = None if checkpoint is None else read_state(checkpoint).settings
        known = self.settings.changed(dtype=self._dtype(saved))
        replica, ranks = build_replica(self.model, stop.ranks, known), stop.ranks
        state = self._start_state(checkpoint, replica)
        settings = state.settings
        ranks.ask_first(lambda: self._check_disk(settings, is_new=checkpoint is None))
        optimizer = build_optimizer(self.model, settings)
        ema = None if settings.ema_decay is None else Ema(self.model, settings.ema_decay)
        torch.manual_seed(settings.seed)
        if checkpoint is not None:
            self._verify_data()
            restore(checkpoint, replica=replica, optimizer=optimizer, ema=ema)
        self._tell_start(state, checkpoint, self._told(ranks))
        metrics_file = MetricsFile(
            self.out / "metrics.jsonl" if ranks.is_first else None,
            step=state.step,
            evaluated_step=state.evaluated_step,
        )
        saver = Saver(self.out, replica, optimizer, ema)
        with closing(metrics_file) as metrics, saver:
            loop = TrainingLoop(
                state=state,
                replica=replica,
                optimizer=optimizer,
                ema=ema,
                data=self._train_data(settings),
                valid=self._valid_data(settings),
                judge=self.judge,
                out=self.out,
                metrics=metrics,
                callbacks=self._told(ranks),
                stop=stop,
                saver=saver,
                checkpoint=checkpoint,
            )
            return loop.run()

    def _told(self, ranks: Ranks) -> tuple[Callback, ...]:
        return tuple(
            callback for callback in self.callbacks if ranks.is_first or callback.is_for_every_rank
        )

    def _check_disk(self, settings: TrainSettings, *, is_new: bool) -> None:
        """The checkpoints that will stay and the one that is being written must fit."""
        num_checkpoints = settings.keep_checkpoints + 1 if is_new else 1
        trained = sum(weight.nbytes for weight in self.model.parameters() if weight.requires_grad)
        held = sum(weight.nbytes for weight in self.model.parameters())
        if adapter_names(self.model):  # frozen weights are not written
            held = trained
        copies = _AVERAGES_IN_CHECKPOINT[settings.optimizer] + (settings.ema_decay is not None)
        require_disk_space(
            self.out,
            num_checkpoints * (held + copies * trained),
            f"a run that keeps {settings.keep_checkpoints} checkpoints",
        )

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

    def _start_state(self, checkpoint: Path | None, replica: Replica) -> RunState:
        """The state to go on from, with settings resolved; run.json keeps a record of it."""
        saved = read_state(checkpoint) if checkpoint else None
        settings = self._resolve(saved.settings if saved else None, replica)
        state = RunState(
            step=0,
            elapsed=0.0,
            evaluated_step=0,
            settings=settings,
            config=config_values(self.model.config),
            data_fingerprint=self.data.fingerprint,
            objective=self._train_data(self.settings).objective,
            loss_scale=LossScale() if settings.dtype == "float16" else None,
            base_fingerprint=replica.ranks.ask_first(self._base_fingerprint),
        )
        if saved is not None and checkpoint is not None:
            check_same_run(saved, state, where=checkpoint)
            state = dataclasses.replace(saved, settings=state.settings)
        replica.ranks.ask_first(lambda: replace_text(self.out / "run.json", state.to_json()))
        return state

    def _base_fingerprint(self) -> str | None:
        """Of the weights that checkpoints of adapters leave out; None where they have all."""
        return frozen_fingerprint(self.model) if adapter_names(self.model) else None

    def _resolve(self, saved: TrainSettings | None, replica: Replica) -> TrainSettings:
        """Fills in what the settings leave open; a resumed run keeps what it had found out."""
        given = settings = self.settings
        if saved is None:
            settings = self._count_steps(settings.changed(dtype=self._dtype(saved)), replica)
        else:
            _tell_kept_steps(given, saved)
            settings = settings.changed(
                steps=given.steps
                if given.minutes is None and given.epochs is None
                else saved.steps,
                warmup_steps=_first_known(given.warmup_steps, saved.warmup_steps),
                dtype=self._dtype(saved),
            )
        tenth = (settings.steps or 0) // 10
        return settings.changed(
            warmup_steps=_first_known(settings.warmup_steps, min(_MOST_WARMUP_STEPS, tenth)),
            save_every=given.save_every or max(tenth, 1),
        )

    def _dtype(self, saved: TrainSettings | None) -> Dtype:
        given = self.settings.dtype
        if saved is None:
            return resolve_dtype(given, self._device)
        assert saved.dtype != "auto"
        return saved.dtype if given == "auto" else given

    def _count_steps(self, settings: TrainSettings, replica: Replica) -> TrainSettings:
        """Turns a budget of minutes or epochs into steps, where one is given."""
        data = self._train_data(settings)
        if settings.epochs is not None:
            affordable = math.ceil(round(settings.epochs * data.steps_per_epoch, 6))
        elif settings.minutes is not None:
            valid = self._valid_data(settings)
            affordable = count_affordable_steps(replica, data, valid, settings)
        else:
            return settings
        return settings.changed(steps=min(affordable, settings.steps or affordable))

    def _train_data(self, settings: TrainSettings) -> TrainingData:
        return self._order(self.data, settings, seed=settings.seed)

    def _valid_data(self, settings: TrainSettings) -> TrainingData | None:
        return None if self.valid is None else self._order(self.valid, settings, seed=None)

    def _order(
        self, data: TokenShards | ExampleSet, settings: TrainSettings, *, seed: int | None
    ) -> TrainingData:
        if isinstance(data, TokenShards):
            return TokenRows(data, self.objective or CausalLMObjective(), settings, seed)
        return ExampleBatches(data, settings, seed)

    def _check(self) -> None:
        _check_weights(self.model)
        if self.settings.state_dict_type == "sharded" and adapter_names(self.model):
            raise ValueError(
                "state_dict_type is sharded, but the model has adapters, whose checkpoints are "
                "small; expected full; leave it out"
            )
        if self.objective is not None and not isinstance(self.data, TokenShards):
            raise ValueError(
                f"objective is {type(self.objective).__name__}, but the data is labelled, and its "
                "labels are the objective; leave it out, or give token shards"
            )
        for data in (self._train_data(self.settings), self._valid_data(self.settings)):
            if data is None:
                continue
            if data.head != self.model.kind:
                raise ValueError(
                    f"the model's head is of the kind {self.model.kind}, but {data.objective} asks "
                    f"for {data.head}; load the model with that head, or give other data"
                )
            data.check(self.model.config)
            is_labelled = isinstance(data, ExampleBatches)
            needed = require_training_memory(
                self.model.config,
                self.settings,
                self._device,
                num_tokens=data.most_tokens if is_labelled else None,
                weights=WeightCount.of(self.model),
            )
            self._memory_bytes = max(self._memory_bytes, needed)

    def _tokens_of_first_step(self, state: RunState) -> int:
        batches = self._train_data(state.settings).micro_batches(state.step)
        return sum(batch.num_tokens for batch in batches)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _verify_data(self) -> None:
        """A run that goes on must go on with the tokens it began with."""
        for data in (self._train_data(self.settings), self._valid_data(self.settings)):
            if data is not None:
                data.verify()

    def _tell_start(
        self, state: RunState, checkpoint: Path | None, callbacks: Sequence[Callback]
    ) -> None:
        settings, config = state.settings, self.model.config
        num_steps, num_tokens = settings.steps or 0, self._tokens_of_first_step(state)
        flops_per_token = config.flops_per_token(settings.row_length or config.context_length)
        report = StartReport(
            settings=settings,
            first_step=state.step,
            num_steps=num_steps,
            num_parameters=sum(weight.numel() for weight in self.model.parameters()),
            tokens_per_step=num_tokens,
            device=str(self._device),
            resumed_from=checkpoint,
            flops=float(flops_per_token * num_tokens * (num_steps - state.step)),
            memory_bytes=self._memory_bytes,
        )
        for callback in callbacks:
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


def _resolve_rows(
    settings: TrainSettings, model: Model, objective: TokenObjective | None
) -> TrainSettings:
    """Fills in what follows from the model alone."""
    num_added = 0 if objective is None else objective.num_added
    row_length = model.config.context_length - num_added
    return settings.changed(
        row_length=settings.row_length or row_length,
        micro_batch_rows=settings.micro_batch_rows or settings.rows_per_step,
    )


def _check_weights(model: Model) -> None:
    for name, weight in model.named_parameters():
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the weight {name} is {weight.dtype}; training keeps weights in torch.float32: "
                "load the model in it and choose the dtype of the products in the settings"
            )
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("no weight of the model requires a gradient; expected at least one")
