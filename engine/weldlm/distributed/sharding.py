"""A model of which every rank holds a part of each weight (FSDP2, `fully_shard`).

Blocks are gathered one after the other; what lies outside of them, tied embedding and head among
it, is one group that stays whole from forward to backward, because the loss needs the head's weight
inside forward.
"""

import copy
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from weldlm.adapters import adapter_names
from weldlm.heads import Model
from weldlm.layers import Block
from weldlm.train_settings import TrainSettings

__all__ = ["part_of", "shard", "skeleton_of", "whole"]


def shard(model: Model, settings: TrainSettings) -> None:
    """Leaves this rank its part of the weights that the first rank has.

    Raises:
        ValueError: the settings or the model have what is not there with sharded weights.
    """
    _check(model, settings)
    with torch.no_grad():
        for weight in model.parameters():
            dist.broadcast(weight, src=0)
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if settings.dtype == "bfloat16" else None,
        reduce_dtype=torch.float32 if settings.dtype == "bfloat16" else None,
        cast_forward_inputs=False,  # among the inputs are labels, numbers of a regression too
    )
    for module in list(model.modules()):
        if isinstance(module, Block):
            fully_shard(module, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def skeleton_of(model: Model) -> Model:
    """Returns a copy of a whole model without memory for its weights."""
    held = {
        id(weight): nn.Parameter(weight.detach().to("meta"), requires_grad=weight.requires_grad)
        for weight in model.parameters()
    }
    tables = {id(table): table for table in model.buffers()}
    return copy.deepcopy(model, {**held, **tables})


def whole(tensor: Tensor) -> Tensor:
    """Returns all of a tensor of which ranks hold parts; all of them call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """Returns what this rank holds of a whole tensor where `like` is sharded; else all of it."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    # each rank has all of the value: nothing needs to be sent
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def _check(model: Model, settings: TrainSettings) -> None:
    problems: Iterable[tuple[bool, str]] = (
        (settings.optimizer != "adamw", f"optimizer {settings.optimizer}"),
        (settings.ema_decay is not None, "ema_decay"),
        (settings.dtype == "float16", "dtype float16"),
        (bool(adapter_names(model)), "adapters"),
    )
    for is_there, what in problems:
        if is_there:
            raise ValueError(
                f"parallel is fsdp together with {what}; expected none: the two do not work "
                "together; take parallel ddp, or leave it out"
            )
