"""How many steps fit into a budget of minutes, measured without changing anything."""

import statistics
import time

from torch.optim import Optimizer

from weldlm.heads import Model
from weldlm.interrupt import StopRequest
from weldlm.optim import build_optimizer, set_learning_rate
from weldlm.token_loss import accumulate_gradients
from weldlm.train_settings import TrainSettings
from weldlm.training_data import TrainingData
from weldlm.training_loop import evaluate

__all__ = ["count_affordable_steps"]

_MEASURED_STEPS = 4  # the first warms up and does not count
_MEASURED_SHARE = 0.05  # of the budget; measuring ends early once two steps took as much


def count_affordable_steps(
    model: Model,
    data: TrainingData,
    valid: TrainingData | None,
    settings: TrainSettings,
) -> int:
    """Returns how many steps, with their validations, fit into what is left of the minutes.

    The first steps of the run are taken with a learning rate of 0, which leaves the weights as
    they are; the gradients and the optimizer's averages are thrown away.
    """
    begin = time.perf_counter()
    budget = (settings.minutes or 0.0) * 60
    optimizer = build_optimizer(model, settings)
    model.train()
    seconds: list[float] = []
    while len(seconds) < _MEASURED_STEPS:
        seconds.append(_time_step(model, data, settings, optimizer, step=len(seconds)))
        if len(seconds) >= 2 and sum(seconds) > _MEASURED_SHARE * budget:
            break
    optimizer.zero_grad(set_to_none=True)
    eval_seconds = 0.0 if valid is None else _time_evaluation(model, valid, settings)
    left = budget - (time.perf_counter() - begin) - eval_seconds  # one validation ends the run
    step_seconds = statistics.median(seconds[1:])
    if settings.eval_every is not None:
        step_seconds += eval_seconds / settings.eval_every
    return max(int(left / step_seconds), 1)


def _time_step(
    model: Model,
    data: TrainingData,
    settings: TrainSettings,
    optimizer: Optimizer,
    *,
    step: int,
) -> float:
    assert settings.dtype != "auto"
    begin = time.perf_counter()
    set_learning_rate(optimizer, 0.0)
    optimizer.zero_grad(set_to_none=True)
    batches = data.micro_batches(step)
    loss = accumulate_gradients(model, batches, dtype=settings.dtype)
    optimizer.step()
    loss.item()  # waits for the device
    return time.perf_counter() - begin


def _time_evaluation(model: Model, valid: TrainingData, settings: TrainSettings) -> float:
    begin = time.perf_counter()
    evaluate(model, valid, settings, step=0, stop=StopRequest())
    return time.perf_counter() - begin
