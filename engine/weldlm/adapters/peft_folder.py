"""Adapters from and to folders of PEFT: adapter_config.json and adapter_model.safetensors."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from weldlm.adapters.lora import (
    adapter_names,
    attach,
    check_name,
    is_classifier,
    lora_linears,
    require_adapter,
)
from weldlm.adapters.peft_config import (
    CONFIG,
    PeftConfig,
    read_peft_config,
    their_adapter_config,
)
from weldlm.adapters.places import Place, adaptable_linear, head_rules, places
from weldlm.atomic_file import replace_file, replace_text
from weldlm.config import ModelConfig
from weldlm.families import FAMILIES
from weldlm.heads import Model
from weldlm.layers import LoraLinear, LoraPair
from weldlm.weights.new_weights import build_without_weights

__all__ = ["head_names", "load_adapter", "num_labels_of", "save_adapter"]

_TENSORS, _PICKLED = "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


def save_adapter(
    model: Model, folder: str | Path, name: str = "default", *, base: str | None = None
) -> None:
    """Writes a folder that PEFT loads onto the model of transformers with equal logits.

    The head of a classifier goes with it.

    Args:
        model: with an adapter of that name.
        folder: made where it does not exist.
        name: of the adapter; the folder does not hold it.
        base: what PEFT finds the model under, for its `AutoPeftModel`.

    Raises:
        OSError: it cannot be written.
        ValueError: there is no such adapter, or the model's family has no such head.
    """
    require_adapter(model, name)
    folder = Path(folder)
    if model.kind not in FAMILIES[model.config.family].heads:
        raise ValueError(
            f"{model.config.family} has no {model.kind} head in the Hugging Face format, so that "
            "PEFT has no names for its weights; keep trainable_state(model) instead"
        )
    pairs = _pairs(model, name)
    tensors = {}
    for place, pair in pairs.items():
        tensors[_PREFIX + place.theirs + _DOWN] = pair.down.detach().contiguous()
        tensors[_PREFIX + place.theirs + _UP] = pair.up.detach().contiguous()
    head = _saved_head(model, pairs)
    tensors |= {_PREFIX + name: tensor.detach().contiguous() for name, tensor in head.items()}
    config = their_adapter_config(model, pairs, head=list(head), base=base)
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / _TENSORS) as path:
        try:
            save_file(tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:  # of the disk: the tensors are plain
            raise OSError(f"{folder / _TENSORS} could not be written ({error})") from error
    replace_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load_adapter(
    model: Model, folder: str | Path, name: str = "default", *, is_trainable: bool = False
) -> None:
    """Adds the adapter of a PEFT folder; it alone is active.

    Weights of a head that were saved with it (`modules_to_save`) replace those of the model.

    Args:
        model: of the same family, size and head as the one it was trained on.
        folder: with adapter_config.json and adapter_model.safetensors, or torch's .bin file, from
            which nothing but tensors is taken.
        name: that it gets here.
        is_trainable: it alone is trained; else what is trained stays as it is.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the adapter is for another model, damaged, or uses what is not supported; the
            model is as it was.
    """
    folder = Path(folder)
    check_name(model, name)
    config = read_peft_config(folder)
    tensors = _read_tensors(folder)
    pairs = _read_pairs(model, config, tensors, folder)
    head = _read_head(model, tensors, folder)
    _refuse_others(model, tensors, pairs, folder)
    attach(model, name, pairs)
    with torch.no_grad():
        for ours, tensor in head.items():
            model.get_parameter(ours).copy_(tensor)
    if is_trainable:
        model.requires_grad_(False)
        for ours in head:
            model.get_parameter(ours).requires_grad_(True)
    for pair in pairs.values():
        pair.requires_grad_(is_trainable)


def head_names(model: Model, folder: Path) -> list[str]:
    """Weights of the model's head that the folder holds, by our names."""
    tensors = _read_tensors(folder)
    return [ours for ours, rule in head_rules(model).items() if rule.theirs[0] in tensors]


def num_labels_of(config: ModelConfig, head: type[Model], folder: Path) -> int | None:
    """How many labels the head in the folder has; None where it holds none."""
    rule = head_rules(build_without_weights(head, config)).get("classifier.weight")
    tensor = None if rule is None else _read_tensors(folder).get(rule.theirs[0])
    return None if tensor is None else tensor.shape[0]


def _pairs(model: Model, name: str) -> dict[Place, LoraPair]:
    """The pairs of an adapter by their place."""
    layers: dict[str, LoraLinear] = dict(lora_linears(model))
    return {
        place: layers[place.module].pairs(name)[place.part]
        for place in places(model)
        if place.module in layers and place.part in layers[place.module].pairs(name)
    }


def _saved_head(model: Model, pairs: Mapping[Place, LoraPair]) -> dict[str, Tensor]:
    """Weights of a classifier's head by their names, less those of layers that have a pair.

    PEFT takes a layer either whole or as a pair.
    """
    if not is_classifier(model):
        return {}
    adapted = {place.module for place in pairs}
    return {
        theirs: model.get_parameter(ours)
        for ours, rule in head_rules(model).items()
        for theirs in rule.theirs
        if ours.rpartition(".")[0] not in adapted
    }


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """By their names less what PEFT puts before each."""
    path, pickled = folder / _TENSORS, folder / _PICKLED
    try:
        if path.is_file():
            tensors = load_file(path)
        elif pickled.is_file():
            path = pickled
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise FileNotFoundError(f"{path} does not exist; expected the weights of the adapter")
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, and code in it is not run; expected plain weights; "
            "ask for them as safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({problem}); get the file again") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise ValueError(f"{path} holds something else than tensors by name; expected an adapter")
    return {str(name).removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}


def _read_pairs(
    model: Model, config: PeftConfig, tensors: Mapping[str, Tensor], folder: Path
) -> dict[Place, LoraPair]:
    pairs = {}
    for place in places(model):
        for layer in _names_of(model, place):
            if layer + _DOWN in tensors or layer + _UP in tensors:
                pairs[place] = _read_pair(model, place, layer, config, tensors, folder)
                break
    if not pairs:
        found = repr(min(tensors)) if tensors else "none"
        raise ValueError(
            f"{folder} has no pair for a layer of this {model.config.family} model; its first "
            f"tensor is {found}; expected names such as {places(model)[0].theirs + _DOWN!r}; load "
            "the model that it was trained on"
        )
    return pairs


def _names_of(model: Model, place: Place) -> tuple[str, str]:
    """The layer's name, and the one in the bare transformer, or in a model with a head."""
    prefix = FAMILIES[model.config.family].prefix
    is_bare = model.kind == "embedding"
    other = prefix + place.theirs if is_bare else place.theirs.removeprefix(prefix)
    return place.theirs, other


def _read_pair(
    model: Model,
    place: Place,
    layer: str,
    config: PeftConfig,
    tensors: Mapping[str, Tensor],
    folder: Path,
) -> LoraPair:
    rank, linear = config.rank_of(layer), adaptable_linear(model, place)
    expected = {_DOWN: (rank, linear.in_features), _UP: (place.num_rows, rank)}
    parts = {}
    device = next(model.parameters()).device
    for ending, shape in expected.items():
        tensor = tensors.get(layer + ending)
        if tensor is None:
            raise ValueError(f"{folder} lacks the tensor {layer + ending!r}; get the file again")
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise ValueError(
                f"{folder}: {layer + ending!r} is {tuple(tensor.shape)} in {tensor.dtype}; "
                f"expected {shape} of floating-point numbers; load the model that it was trained on"
            )
        # in fp32, as PEFT does; copied, so that nothing holds the file
        dtype = torch.promote_types(tensor.dtype, torch.float32)
        parts[ending] = tensor.to(device, dtype, copy=True)
    return LoraPair(
        parts[_DOWN],
        parts[_UP],
        begin=place.begin,
        alpha=config.alpha_of(layer),
        use_rslora=config.use_rslora,
        dropout=config.dropout,
    )


def _read_head(model: Model, tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Weights of the head that the folder holds, by our names."""
    head = {}
    for ours, rule in head_rules(model).items():
        [theirs] = rule.theirs
        if theirs not in tensors:
            continue
        shape = tuple(model.get_parameter(ours).shape)
        if tuple(tensors[theirs].shape) != shape:
            raise ValueError(
                f"{folder}: {theirs!r} is {tuple(tensors[theirs].shape)}; expected {shape}; give "
                "the model as many labels as the adapter was trained with"
            )
        head[ours] = tensors[theirs]
    if adapter_names(model) and any(_differs(model, ours, head[ours]) for ours in head):
        raise ValueError(
            f"{folder} holds a head, and the model's belongs to the adapter "
            f"{adapter_names(model)[0]!r}; expected one adapter with a head; call "
            "remove_adapters(model) first"
        )
    return head


def _differs(model: Model, ours: str, tensor: Tensor) -> bool:
    weight = model.get_parameter(ours).detach().cpu()
    return not torch.equal(weight, tensor.to(weight.dtype))


def _refuse_others(
    model: Model, tensors: Mapping[str, Tensor], pairs: Mapping[Place, LoraPair], folder: Path
) -> None:
    layers = {name for place in pairs for name in _names_of(model, place)}
    known = {layer + ending for layer in layers for ending in (_DOWN, _UP)}
    known |= {name for rule in head_rules(model).values() for name in rule.theirs}
    surplus = sorted(set(tensors) - known)
    if surplus:
        raise ValueError(
            f"{folder} holds the tensor {surplus[0]!r}, for which this {model.config.family} model "
            f"of kind {model.kind} has no place; expected pairs {_DOWN[1:]} and {_UP[1:]} of "
            "linear layers inside its blocks, and weights of a head of its own"
        )
