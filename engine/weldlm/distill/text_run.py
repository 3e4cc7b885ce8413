"""Distillation of a language model on text."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weldlm.callbacks import Callback, TrainResult
from weldlm.data.prepare import Corpus
from weldlm.distill.loss import DistillSettings, distilled
from weldlm.heads import Model
from weldlm.objectives import MicroBatch, TokenObjective
from weldlm.token_loss import mean_loss
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.training_data import TokenRows

__all__ = ["TextDistillation", "distill_text"]


@dataclass(frozen=True, slots=True)
class TextDistillation:
    """How a distillation ended."""

    training: TrainResult
    # "teacher" and "student", each with num_parameters, num_layers, loss (mean over the labels of
    # the held-out text, nats) and tokens_per_second; none where nothing was held out, or the run
    # was interrupted
    figures: dict[str, dict[str, float]]


def distill_text(
    student: Any,
    teacher: Any,
    corpus: Corpus,
    objective: TokenObjective,
    settings: TrainSettings,
    distillation: DistillSettings,
    out: str | Path,
    *,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
) -> TextDistillation:
    """Trains a student on text, in place, and judges both models on what was held out.

    Args:
        student: a language model with fp32 weights, on the device that trains.
        teacher: one with the same vocabulary, on the same device.
        corpus: tokens by the teacher's tokenizer.
        objective: what both are asked.
        settings: of the training.
        distillation: what the student learns from the teacher.
        out: folder of the checkpoints.
        callbacks: take the reports of the training.
        resume: go on from the newest checkpoint in `out`, where there is one.

    Raises:
        ValueError: models, text and settings do not fit together.
        FileExistsError: `out` holds checkpoints, and `resume` is not set.
    """
    learner = distilled(student, teacher, distillation)
    trainer = Trainer(
        learner,
        corpus.train,
        settings,
        out,
        objective=objective,
        valid=corpus.valid,
        callbacks=callbacks,
    )
    result = trainer.fit(resume="auto" if resume else False)
    if result.is_interrupted or corpus.valid is None:
        return TextDistillation(result, {})
    data = TokenRows(corpus.valid, objective, trainer.settings, None)
    batches = list(data.validation_batches())
    pairs = {"teacher": teacher, "student": student}
    return TextDistillation(result, {name: _judge(one, batches) for name, one in pairs.items()})


def _judge(model: Model, batches: Sequence[MicroBatch]) -> dict[str, float]:
    begin = time.perf_counter()
    found = mean_loss(model, batches, dtype="float32", is_stopped=lambda: False)
    assert found is not None
    seconds = time.perf_counter() - begin
    return {
        "num_parameters": sum(weight.numel() for weight in model.parameters()),
        "num_layers": model.config.num_layers,
        "loss": found[0],
        "tokens_per_second": sum(batch.num_tokens for batch in batches) / seconds,
    }
