"""The optimizer, its parameter groups and the learning rate of each step."""

import math
from typing import Any

import torch
from torch import nn

from weldlm.train_settings import TrainSettings

__all__ = ["build_optimizer", "learning_rate"]


def build_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """Builds torch's fused AdamW over the trainable weights, tied ones once.

    Weights of two or more dimensions decay, embeddings among them; biases and norms do not
    (nanoGPT's rule). A frozen weight is left out.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if weight.dim() >= 2]},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Returns the learning rate of `step`, counted from 0: linear rise, then half a cosine.

    The first step has lr / (warmup_steps + 1), step `warmup_steps` has lr, and the last step has
    lr * min_lr_fraction. Needs `steps` and `warmup_steps` to be known.
    """
    if settings.steps is None or settings.warmup_steps is None:
        raise ValueError("steps or warmup_steps is None; expected settings whose steps are known")
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / (settings.warmup_steps + 1)
    decay_steps = max(settings.steps - 1 - settings.warmup_steps, 1)
    progress = min((step - settings.warmup_steps) / decay_steps, 1.0)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return settings.lr * (settings.min_lr_fraction + (1.0 - settings.min_lr_fraction) * cosine)
