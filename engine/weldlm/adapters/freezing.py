"""Which weights are trained, and those that are, by name."""

import hashlib
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from weldlm.heads import Model
from weldlm.layers import LoraLinear, QuantizedLinear, QuantizedTensors

__all__ = [
    "freeze",
    "frozen_fingerprint",
    "load_trainable_state",
    "num_trainable_parameters",
    "trainable_state",
    "unfreeze",
]

_BODY = re.compile(r"(transformer|encoder|decoder)\.")
_LAYERS = re.compile(r"(?:(encoder|decoder)\.)?layers:(\d+)(?:-(\d+))?")
_WORDS: dict[str, Callable[[str], bool]] = {
    "all": lambda _: True,
    "body": lambda name: _BODY.match(name) is not None,
    "encoder": lambda name: name.startswith("encoder."),
    "decoder": lambda name: name.startswith("decoder."),
    "embedding": lambda name: ".embedding." in name,
    "head": lambda name: _BODY.match(name) is None,
}


def freeze(model: Model, *parts: str) -> int:
    """Takes weights out of training.

    Args:
        model: a tied head is frozen with its embedding: they are one weight.
        parts: "all", "body", "encoder", "decoder", "embedding" (with positions, token types and
            norm), "head", "layers:2", "layers:0-3" (of both stacks, or "encoder.layers:0-3"; the
            last is frozen too), "adapter:NAME", or a pattern over parameter names
            ("*.attention.*"). All but the last two leave adapters as they are.

    Returns:
        The number of weights in these parts.

    Raises:
        ValueError: a part names no weight.
    """
    return _set_trained(model, parts, is_trained=False)


def unfreeze(model: Model, *parts: str) -> int:
    """Takes weights into training; parts and result are those of `freeze`.

    Raises:
        ValueError: a part names no weight, or the bias of a quantized layer, which has no gradient.
    """
    return _set_trained(model, parts, is_trained=True)


def num_trainable_parameters(model: nn.Module) -> int:
    """Returns the number of weights that are trained, counting a tied one once."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Returns copies of the weights that are trained, by name: all that training changes."""
    return {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


@torch.no_grad()
def load_trainable_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Sets the weights that are trained to what `trainable_state` gave for such a model.

    Raises:
        ValueError: names or shapes differ; no weight is changed.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    different = sorted(weights.keys() ^ state.keys())
    if different:
        where = "the model" if different[0] in weights else "the state"
        raise ValueError(
            f"{different[0]!r} is trained in {where} alone; expected equal names; add the same "
            "adapters and freeze the same parts first"
        )
    for name, weight in weights.items():
        if weight.shape != state[name].shape:
            raise ValueError(
                f"{name} is {tuple(weight.shape)} in the model and {tuple(state[name].shape)} in "
                "the state; expected equal shapes"
            )
    for name, weight in weights.items():
        weight.copy_(state[name])


def frozen_fingerprint(model: nn.Module) -> str:
    """Returns a hash of all that training leaves as it is: frozen weights, quantized ones too."""
    frozen = {
        name: tensor
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if not tensor.requires_grad
    }
    digest = hashlib.sha256()
    for name, tensor in sorted(frozen.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _set_trained(model: Model, parts: tuple[str, ...], *, is_trained: bool) -> int:
    weights = dict(model.named_parameters(remove_duplicate=False))
    names = list(dict.fromkeys(name for part in parts for name in _named(model, part, weights)))
    if is_trained:
        _refuse_quantized(model, names)
    chosen = {id(weights[name]): weights[name] for name in names}.values()
    for weight in chosen:
        weight.requires_grad_(is_trained)
    return sum(weight.numel() for weight in chosen)


def _named(model: Model, part: str, weights: Mapping[str, Tensor]) -> list[str]:
    plain = [name for name in weights if ".adapters." not in name]
    if part in _WORDS:
        found = [name for name in plain if _WORDS[part](name)]
    elif match := _LAYERS.fullmatch(part):
        found = [name for name in plain if _is_in_layers(name, match)]
    elif part.startswith("adapter:"):
        adapter = part.removeprefix("adapter:")
        found = [name for name in weights if f".adapters.{adapter}." in name]
    else:
        found = [name for name in weights if fnmatchcase(name, part)]
    if not found:
        raise ValueError(
            f"{part!r} names no weight of this {model.config.family} model with "
            f"{model.config.num_layers} layers; expected one of {', '.join(_WORDS)}, 'layers:0-1', "
            "'adapter:NAME', or a pattern over parameter names such as '*.attention.*'"
        )
    return found


def _is_in_layers(name: str, layers: re.Match[str]) -> bool:
    stack, first, last = layers[1], int(layers[2]), int(layers[3] or layers[2])
    found = re.match(r"(\w+)\.blocks\.(\d+)\.", name)
    is_stack = found is not None and stack in (None, found[1])
    return is_stack and found is not None and first <= int(found[2]) <= last


def _refuse_quantized(model: Model, names: list[str]) -> None:
    for name in names:
        module = model.get_submodule(name.rpartition(".")[0])
        is_quantized = isinstance(module, LoraLinear | QuantizedLinear)
        if is_quantized and isinstance(module.weight, QuantizedTensors):
            raise ValueError(
                f"{name} belongs to a quantized layer and has no gradient; expected parts without "
                "such layers; call dequantize_base(model) first"
            )
