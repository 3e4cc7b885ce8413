"""Checkpoints that the first rank writes: whole weights and averages in safetensors.

`state/optimizer.safetensors` holds the optimizer's averages by parameter name. Where the run
averages its weights, the model folder has the averages and `state/weights.safetensors` the weights
that training goes on from. Of a model with adapters there are `adapters/<name>/` for PEFT and
`trained.safetensors` in place of the model folder; frozen weights are those that the run began
with.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from weldlm.adapters import adapter_names, load_trainable_state, save_adapter, trainable_state
from weldlm.checkpoint.folders import STATE
from weldlm.checkpoint.optimizer_state import set_optimizer_tensors, weight_name
from weldlm.distributed import held_part
from weldlm.ema import Ema
from weldlm.heads import HEADS, Model
from weldlm.weights import load_pretrained, save_pretrained

__all__ = ["load_trained", "restore_whole", "write_whole"]

_TRAINED = "trained.safetensors"  # of a model with adapters, in place of the model folder
_OPTIMIZER = "optimizer.safetensors"
_WEIGHTS = "weights.safetensors"


def write_whole(
    folder: Path, *, model: Model, averages: Mapping[str, Tensor], ema: Ema | None
) -> None:
    """Writes into the draft of a checkpoint.

    Args:
        folder: the draft, with `state/`.
        model: with all of its weights.
        averages: what `optimizer_tensors` gives.
        ema: an average of the weights.
    """
    with nullcontext() if ema is None else ema.applied():
        _write_weights(model, folder)
    save_file(dict(averages), folder / STATE / _OPTIMIZER)
    if ema is not None:
        save_file(ema.weights(), folder / STATE / _WEIGHTS)


def restore_whole(
    checkpoint: Path, *, model: Model, optimizer: Optimizer, ema: Ema | None, num_updates: Tensor
) -> None:
    """Sets model, optimizer and average to what `write_whole` was given.

    Raises:
        ValueError: one of the two models has adapters, the other has none.
    """
    _restore_weights(checkpoint, model)
    if ema is not None:
        ema.load_state_dict({**ema.weights(), "num_updates": num_updates})
        ema.set_weights(load_file(checkpoint / STATE / _WEIGHTS))
    weights = dict(model.named_parameters())
    averages = {
        # cloned: a tensor that safetensors maps from the file need not be aligned in memory
        key: held_part(value, weights[weight_name(key)]).clone()
        for key, value in load_file(checkpoint / STATE / _OPTIMIZER).items()
    }
    set_optimizer_tensors(averages, model, optimizer)


def load_trained(checkpoint: Path, model: Model) -> None:
    """Gives a model with adapters the trained weights of a checkpoint of such a model.

    Raises:
        ValueError: other weights are trained there.
    """
    load_trainable_state(model, load_file(checkpoint / _TRAINED))


def _write_weights(model: Model, folder: Path) -> None:
    """All weights; of a model with adapters only those that are trained, and PEFT folders."""
    names = adapter_names(model)
    if not names:
        save_pretrained(model, folder)
        return
    for name in names:
        save_adapter(model, folder / "adapters" / name, name)
    save_file(trainable_state(model), folder / _TRAINED)


def _restore_weights(checkpoint: Path, model: Model) -> None:
    is_of_adapters = (checkpoint / _TRAINED).is_file()
    if is_of_adapters != bool(adapter_names(model)):
        whose = "a model with adapters" if is_of_adapters else "a model without adapters"
        raise ValueError(
            f"{checkpoint} is of {whose}; expected one of the model that is trained; add or remove "
            "adapters as in the run, or give another out folder"
        )
    if is_of_adapters:
        load_trained(checkpoint, model)
        return
    saved = load_pretrained(checkpoint, HEADS[model.kind], labels=model.config.labels).state_dict()
    held = model.state_dict()
    model.load_state_dict({name: held_part(saved[name], held[name]) for name in held})
