"""Validation: the loss over all held-out labels, and what a judge of the task finds."""

import math
from collections.abc import Callable, Mapping

import torch

from weldlm.callbacks import EvalReport
from weldlm.distributed import Replica, StopVote
from weldlm.heads import Model
from weldlm.token_loss import mean_loss
from weldlm.train_settings import TrainSettings
from weldlm.training_data import TrainingData

__all__ = ["Judge", "evaluate"]

# measures a model in the way of its task, beside the loss: accuracy and the like by name
Judge = Callable[[Model], Mapping[str, float]]


def evaluate(
    replica: Replica,
    data: TrainingData,
    settings: TrainSettings,
    *,
    step: int,
    stop: StopVote,
    judge: Judge | None = None,
) -> EvalReport | None:
    """Returns the mean loss over the validation data; None where it was stopped."""
    assert settings.dtype != "auto"
    model, ranks = replica.model, replica.ranks
    found = mean_loss(
        model,
        data.validation_batches(ranks.rank, ranks.world_size),
        dtype=settings.dtype,
        is_stopped=stop.poll,
        ranks=ranks,
    )
    if found is None:
        return None
    loss, num_labels = found
    tokens_per_byte = data.tokens_per_byte
    bits_per_byte = None if tokens_per_byte is None else loss / math.log(2) * tokens_per_byte
    metrics = {} if judge is None else _judge(replica, judge)
    return EvalReport(step, loss, bits_per_byte, num_labels, metrics)


def _judge(replica: Replica, judge: Judge) -> dict[str, float]:
    """What the judge finds on the first rank, without dropout and gradients."""
    model = replica.whole_model(next(replica.model.parameters()).device)
    return replica.ranks.ask_first(lambda: _measure(model, judge))


def _measure(model: Model, judge: Judge) -> dict[str, float]:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return dict(judge(model))
    finally:
        model.train(was_training)
