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
from weldlm.transformer import Transformer

__all__ = ["build_optimizer", "learning_rate", "lr_factors", "set_learning_rate"]

_logger = logging.getLogger(__name__)


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """Builds torch's optimizer over the trainable weights, tied ones once.

    Weights of two or more dimensions decay, embeddings among them; biases and norms do not
    (nanoGPT's rule). A frozen weight is left out. Every group has an `lr_factor`, by which
    `set_learning_rate` multiplies.
    """
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(
                _groups(model, _trainable(model), settings),
                lr=settings.lr,
                betas=settings.betas,
                eps=settings.eps,
                fused=True,
            )
        case "muon":
            return _build_muon(model, settings)
        case "adafactor":
            return torch.optim.Adafactor(
                _groups(model, _trainable(model), settings), lr=settings.lr
            )


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the rate of every group of an optimizer that `build_optimizer` built."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def lr_factors(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """By what the learning rate of each weight is multiplied (ELECTRA's layer-wise decay).

    The factor is layer_decay ** n, where n is 0 for the head and for the last norm, 1 for the last
    block, 2 for the one below it, and so on; one more than for the first block for the embeddings
    and for what all blocks share. A head that is tied to the embedding counts as embedding. An
    encoder and a decoder are both counted from their own end.
    """
    depths = dict.fromkeys((name for name, _ in model.named_parameters()), 0)
    for prefix, transformer in model.named_modules():
        if isinstance(transformer, Transformer):
            for name, _ in transformer.named_parameters(prefix):
                if name in depths:
                    within = name[len(prefix) :].removeprefix(".")
                    depths[name] = _blocks_above(within, len(transformer.blocks))
    return {name: layer_decay**depth for name, depth in depths.items()}


def _blocks_above(name: str, num_blocks: int) -> int:
    """How many factors the weight `name` of a transformer takes."""
    part, *rest = name.split(".")
    if part == "norm":
        return 0
    return num_blocks - int(rest[0]) if part == "blocks" else num_blocks + 1


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
        _groups(model, matrices, settings),
        _groups(model, others, settings),
        part_rows={weight: rows[name] for name, weight in matrices.items()},
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
    )


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _groups(
    model: nn.Module, weights: dict[str, nn.Parameter], settings: TrainSettings
) -> list[dict[str, Any]]:
    """A group for each learning rate of the weights that decay, and of those that do not."""
    layer_decay = settings.layer_decay
    factors = lr_factors(model, 1.0 if layer_decay is None else layer_decay)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, weight in weights.items():
        groups.setdefault((weight.dim() >= 2, factors[name]), []).append(weight)
    return [
        {
            "params": group,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "lr": settings.lr * factor,
            "lr_factor": factor,
        }
        for (decays, factor), group in groups.items()
    ]
