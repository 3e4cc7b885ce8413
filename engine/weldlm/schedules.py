"""How the learning rate runs: a linear rise, then one of the schedules.

A schedule is a share of `lr` by step. All have 1 at step `warmup_steps`, where the rise ends, so
nothing jumps there. With n steps, w of them rising, and f = min_lr_fraction:

    cosine        f + (1 - f) (1 + cos(pi p)) / 2      p = (step - w) / (n - 1 - w)
    linear        1 - (1 - f) p
    wsd           1 - (1 - f) q                        q = (step - (n - 1 - d)) / d, at least 0
    inverse_sqrt  sqrt((w + 1) / (step + 1)), at least f
    constant      1

wsd (warm-up, stable, decay) decays in the last d = decay_fraction * n steps. The first three have f
at the last step and stay there.
"""

import math

from weldlm.train_settings import TrainSettings

__all__ = ["learning_rate"]


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Returns the learning rate of `step`, counted from 0.

    The first step has lr / (warmup_steps + 1), step `warmup_steps` has lr. Needs `steps` and
    `warmup_steps` to be known.
    """
    if settings.steps is None or settings.warmup_steps is None:
        raise ValueError("steps or warmup_steps is None; expected settings whose steps are known")
    steps, warmup_steps = settings.steps, settings.warmup_steps
    if step < warmup_steps:
        return settings.lr * (step + 1) / (warmup_steps + 1)
    floor = settings.min_lr_fraction
    match settings.schedule:
        case "cosine":
            fall = (1.0 - math.cos(math.pi * _progress(step, warmup_steps, steps - 1))) / 2
        case "linear":
            fall = _progress(step, warmup_steps, steps - 1)
        case "wsd":
            decay_steps = max(round(settings.decay_fraction * steps), 1)
            begin = max(steps - 1 - decay_steps, warmup_steps)
            fall = _progress(step, begin, steps - 1)
        case "inverse_sqrt":
            return settings.lr * max(math.sqrt((warmup_steps + 1) / (step + 1)), floor)
        case "constant":
            fall = 0.0
    return settings.lr * (1.0 - (1.0 - floor) * fall)


def _progress(step: int, begin: int, end: int) -> float:
    """0 up to `begin`, 1 from `end` on."""
    return min(max((step - begin) / max(end - begin, 1), 0.0), 1.0)
