"""The optimizer, its parameter groups and the learning rate of each step."""

import logging
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from weldlm.muon import MuonAndAdamW, hidden_matrices
from weldlm.precision import has_fast_bfloat16
from weldlm.schedules import learning_rate
from weldlm.train_settings import TrainSettings

__all__ = ["build_optimizer", "learning_rate"]

_logger = logging.getLogger(__name__)


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """Builds torch's optimizer over the trainable weights, tied ones once.

    Weights of two or more dimensions decay, embeddings among them; biases and norms do not
    (nanoGPT's rule). A frozen weight is left out.
    """
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(
                _groups(_trainable(model), settings),
                lr=settings.lr,
                betas=settings.betas,
                eps=settings.eps,
                fused=True,
            )
        case "muon":
            return _build_muon(model, settings)
        case "adafactor":
            return torch.optim.Adafactor(_groups(_trainable(model), settings), lr=settings.lr)


def _build_muon(model: nn.Module, settings: TrainSettings) -> MuonAndAdamW:
    weights, rows = _trainable(model), hidden_matrices(model)
    matrices = {name: weight for name, weight in weights.items() if name in rows}
    if not matrices:
        raise ValueError(
            "the optimizer is muon, but no matrix of the model's blocks is trainable; expected "
            "one: unfreeze a block or take adamw"
        )
    device = next(iter(matrices.values())).device
    if not has_fast_bfloat16(device):
        _logger.warning(
            "this %s has no bf16 instructions, but muon multiplies matrices in bfloat16: that is "
            "several times slower than float32",
            device.type,
        )
    others = {name: weight for name, weight in weights.items() if name not in rows}
    return MuonAndAdamW(
        _groups(matrices, settings),
        _groups(others, settings),
        part_rows={weight: rows[name] for name, weight in matrices.items()},
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
    )


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _groups(weights: dict[str, nn.Parameter], settings: TrainSettings) -> list[dict[str, Any]]:
    """One group of the weights that decay and one of those that do not."""
    groups: dict[bool, list[nn.Parameter]] = {}
    for weight in weights.values():
        groups.setdefault(weight.dim() >= 2, []).append(weight)
    return [
        {"params": group, "weight_decay": settings.weight_decay if decays else 0.0}
        for decays, group in groups.items()
    ]
