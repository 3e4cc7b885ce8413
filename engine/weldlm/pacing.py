"""How many steps fit into a budget of minutes, measured without changing anything."""

import logging
import statistics
import time

from torch.optim import Optimizer

from weldlm.distributed import Replica, StopVote
from weldlm.interrupt import StopRequest
from weldlm.optim import build_optimizer, set_learning_rate
from weldlm.step_share import draw_share
from weldlm.token_loss import accumulate_gradients
from weldlm.train_settings import TrainSettings
from weldlm.training_data import TrainingData
from weldlm.validation import evaluate

__all__ = ["count_affordable_steps"]

_logger = logging.getLogger(__name__)

_FEWEST_STEPS = 10  # with fewer a model has hardly begun to learn
_MEASURED_STEPS = 4  # the first warms up and does not count
_MEASURED_SHARE = 0.05  # of the budget; measuring ends early once two steps took as much


def count_affordable_steps(
    replica: Replica,
    data: TrainingData,
    valid: TrainingData | None,
    settings: TrainSettings,
) -> int:
    """Returns how many steps, with their validations, fit into what is left of the minutes.

    The first steps of the run are taken with a learning rate of 0, which leaves the weights as
    they are; the gradients and the optimizer's averages are thrown away. All ranks go by the clock
    of the first.
    """
    begin = time.perf_counter()
    budget = (settings.minutes or 0.0) * 60
    model, ranks = replica.model, replica.ranks
    optimizer = build_optimizer(model, settings)
    model.train()
    seconds: list[float] = []
    while len(seconds) < _MEASURED_STEPS:
        taken = _time_step(replica, data, settings, optimizer, step=len(seconds))
        seconds.append(ranks.of_first(taken))
        if len(seconds) >= 2 and sum(seconds) > _MEASURED_SHARE * budget:
            break
    optimizer.zero_grad(set_to_none=True)
    eval_seconds = 0.0 if valid is None else _time_evaluation(replica, valid, settings)
    left = budget - (time.perf_counter() - begin) - eval_seconds  # one validation ends the run
    step_seconds = statistics.median(seconds[1:])
    if settings.eval_every is not None:
        step_seconds += eval_seconds / settings.eval_every
    num_steps = max(int(ranks.of_first(left / step_seconds)), 1)
    if num_steps < _FEWEST_STEPS:
        _logger.warning(
            "%g minutes leave time for %d steps of %.1f s beside a validation of %.1f s; raise "
            "minutes, or lower rows_per_step or eval_rows",
            settings.minutes or 0.0,
            num_steps,
            step_seconds,
            eval_seconds,
        )
    return num_steps


def _time_step(
    replica: Replica,
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
    share = draw_share(data, step, replica)
    loss = accumulate_gradients(
        replica.module, share.batches, dtype=settings.dtype, before_last=replica.gathering
    )
    optimizer.step()
    loss.item()  # waits for the device
    return time.perf_counter() - begin


def _time_evaluation(replica: Replica, valid: TrainingData, settings: TrainSettings) -> float:
    begin = time.perf_counter()
    stop = StopVote(StopRequest(), replica.ranks)
    evaluate(replica, valid, settings, step=0, stop=stop)
    return time.perf_counter() - begin
