"""A run, or its model alone, from a checkpoint that was written in either way."""

from pathlib import Path

import torch
from torch.optim import Optimizer

from weldlm.checkpoint.folders import RANDOM, SHARDS, STATE, read_head, read_state
from weldlm.checkpoint.random_state import restore_random_state
from weldlm.checkpoint.whole_files import restore_whole
from weldlm.distributed import Replica
from weldlm.ema import Ema
from weldlm.heads import HEADS, Model
from weldlm.weights import load_config, load_pretrained, open_model
from weldlm.weights.new_weights import build_without_weights, fill_shared

__all__ = ["is_in_parts", "load_weights", "restore"]


def is_in_parts(checkpoint: Path) -> bool:
    """Whether ranks have written their parts of it."""
    return (checkpoint / STATE / SHARDS).is_dir()


def restore(
    checkpoint: Path, *, replica: Replica, optimizer: Optimizer, ema: Ema | None = None
) -> None:
    """Sets model, optimizer and torch's random generators to what a whole checkpoint holds.

    The average of the weights, where there is one, too. All ranks call it.

    Raises:
        ValueError: the checkpoint is of a model with adapters and this one has none, or the
            other way round.
    """
    model = replica.model
    num_updates = torch.tensor(read_state(checkpoint).num_updates)
    if is_in_parts(checkpoint):
        # here, because it takes a second that others need not wait
        from weldlm.checkpoint.shards import restore_shards

        restore_shards(
            checkpoint / STATE / SHARDS,
            model=model,
            optimizer=optimizer,
            ema=ema,
            num_updates=num_updates,
            group=replica.ranks.control,
        )
    else:
        restore_whole(
            checkpoint, model=model, optimizer=optimizer, ema=ema, num_updates=num_updates
        )
    restore_random_state(checkpoint / STATE / RANDOM, next(model.parameters()).device)


def load_weights(checkpoint: Path, *, device: torch.device | str = "cpu") -> Model:
    """Reads the model of a whole checkpoint with the head that it was trained with.

    Where the run averages its weights, it has the averages.
    """
    if not is_in_parts(checkpoint):
        return load_pretrained(checkpoint, HEADS[open_model(checkpoint).head], device=device)
    from weldlm.checkpoint.shards import read_weights

    model = build_without_weights(HEADS[read_head(checkpoint)], load_config(checkpoint))
    names = [name for name, _ in model.named_parameters()]
    state = read_weights(checkpoint / STATE / SHARDS, names)
    fill_shared(model, state)
    model.load_state_dict(state, assign=True)
    return model.to(device)
