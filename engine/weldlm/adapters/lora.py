"""LoRA adapters on a model: add, choose, merge, remove.

A layer with adapters keeps the names of its weight and bias; an adapter's weights are called
`<layer>.adapters.<adapter>.<their layer>.down` and `.up`. They are in fp32, whatever the base is.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from weldlm.adapters.places import BODIES, Place, adaptable_linear, head_rules, places_of
from weldlm.adapters.settings import LoraSettings
from weldlm.heads import Model, QuestionAnswerer, Regressor, SequenceClassifier, TokenClassifier
from weldlm.layers import BaseWeight, LoraLinear, LoraPair, QuantizedTensors

__all__ = [
    "adapter_names",
    "add_lora",
    "attach",
    "check_name",
    "disable_adapters",
    "is_classifier",
    "lora_linears",
    "merge_lora",
    "remove_adapters",
    "require_adapter",
    "set_adapter",
    "unmerge_lora",
]

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_CLASSIFIERS = (SequenceClassifier, Regressor, TokenClassifier, QuestionAnswerer)


def add_lora(model: Model, settings: LoraSettings, name: str = "default") -> None:
    """Adds an adapter that changes nothing yet; it alone is active and is trained.

    All other weights are frozen, those of other adapters among them. `down` is drawn from torch's
    generator as PEFT does it, `up` is zero.

    Raises:
        ValueError: a target names no layer, the name is taken or no name, the model's adapters are
            merged, or there is no head to train.
    """
    chosen = places_of(model, settings.targets)
    check_name(model, name)
    if settings.trains_head and not is_classifier(model):
        raise ValueError(
            f"trains_head is True for {type(model).__name__}; expected False, or a classifier, "
            "whose head has weights of its own"
        )
    for place in chosen:
        if settings.trains_head and not place.module.startswith(BODIES):
            raise ValueError(
                f"targets has {place.module}, which trains_head trains whole; expected one of both"
            )
    model.requires_grad_(False)
    pairs = {place: _draw_pair(model, place, settings) for place in chosen}
    attach(model, name, pairs)
    if settings.trains_head:
        for ours in head_rules(model):
            model.get_parameter(ours).requires_grad_(True)


def attach(model: Model, name: str, pairs: Mapping[Place, LoraPair]) -> None:
    """Puts the pairs of an adapter into the model, and makes it the active one."""
    for place, pair in pairs.items():
        layer = adaptable_linear(model, place)
        if not isinstance(layer, LoraLinear):
            layer = LoraLinear(layer).train(layer.training)
            model.set_submodule(place.module, layer)
        if name not in layer.adapters:
            layer.adapters[name] = nn.ModuleDict().train(layer.training)
        adapter = layer.adapters[name]
        assert isinstance(adapter, nn.ModuleDict)
        adapter[place.part] = pair.train(layer.training)
    set_adapter(model, name)


def set_adapter(model: Model, names: str | Sequence[str] | Mapping[str, float]) -> None:
    """Makes adapters the active ones: one, the sum of several, or a sum with shares.

    What is trained stays as it is: see `freeze` and `unfreeze`.

    Raises:
        ValueError: the model has no such adapter, a share is not finite, or adapters are merged.
    """
    shares = dict(names) if isinstance(names, Mapping) else dict.fromkeys(_listed(names), 1.0)
    _require_unmerged(model)
    for name, share in shares.items():
        require_adapter(model, name)
        if not math.isfinite(share):
            raise ValueError(f"the share of adapter {name!r} is {share}; expected a finite number")
    for _, layer in lora_linears(model):
        layer.active = dict(shares)


def disable_adapters(model: Model) -> None:
    """Makes no adapter active; `set_adapter` brings one back."""
    set_adapter(model, {})


def merge_lora(model: Model, shares: Mapping[str, float] | None = None) -> None:
    """Adds adapters to the weights that they change, in place; the layers then cost no more.

    The sum is taken in fp32 and rounded once to the dtype of the weight.

    Args:
        model: its adapters stay, for `unmerge_lora`; `remove_adapters` takes them away.
        shares: of each adapter; those of the active ones where None.

    Raises:
        ValueError: there is none, they are merged already, or a weight is quantized.
    """
    if shares is not None:
        set_adapter(model, shares)
    _require_unmerged(model)
    layers = lora_linears(model)
    if not any(layer.active for _, layer in layers):
        raise ValueError("no adapter is active; expected at least one to merge; see set_adapter")
    for module, layer in layers:
        if isinstance(layer.weight, QuantizedTensors):
            raise ValueError(
                f"{module} has a weight of {layer.weight.bits} bits, into which a merge would "
                "round; expected a floating-point base; call dequantize_base(model) first"
            )
        if not isinstance(layer.weight, Tensor):
            raise ValueError(
                f"{module} has a packed weight, into which nothing can be merged; expected a "
                "floating-point base; merge before the model is packed or quantized"
            )
    for _, layer in layers:
        layer.merge()


def unmerge_lora(model: Model) -> None:
    """Takes merged adapters out of the weights again, equal to before but for rounding.

    Raises:
        ValueError: none is merged.
    """
    merged = [layer for _, layer in lora_linears(model) if layer.merged]
    if not merged:
        raise ValueError("no adapter is merged; expected merge_lora(model) before unmerge_lora")
    for layer in merged:
        layer.unmerge()


def remove_adapters(model: Model, name: str | None = None) -> None:
    """Removes an adapter, or all; merged ones stay in the weights. Layers without any are plain.

    Raises:
        ValueError: there is no such adapter, or it is merged while others are to stay.
    """
    if name is not None:
        require_adapter(model, name)
        _require_unmerged(model)
    for module, layer in lora_linears(model):
        for each in list(layer.adapters) if name is None else [name]:
            layer.active.pop(each, None)
            if each in layer.adapters:
                del layer.adapters[each]
        if not layer.adapters:
            model.set_submodule(module, layer.base().train(layer.training))


def adapter_names(model: Model) -> tuple[str, ...]:
    """Returns the names of the model's adapters, oldest first."""
    return tuple(dict.fromkeys(name for _, layer in lora_linears(model) for name in layer.adapters))


def is_classifier(model: Model) -> bool:
    """Whether the head has weights that no vocabulary shares."""
    return isinstance(model, _CLASSIFIERS)


def lora_linears(model: Model) -> list[tuple[str, LoraLinear]]:
    """Returns the layers with adapters and their names."""
    return [
        (name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear)
    ]


def require_adapter(model: Model, name: str) -> None:
    if name not in adapter_names(model):
        known = ", ".join(map(repr, adapter_names(model))) or "none"
        raise ValueError(f"the model has no adapter {name!r}; it has {known}; add or load one")


def check_name(model: Model, name: str) -> None:
    """Whether a further adapter can have that name."""
    if not _NAME.fullmatch(name) or hasattr(nn.ModuleDict, name):
        raise ValueError(
            f"the adapter name {name!r} cannot be part of a weight's name; expected letters, "
            "digits, '_' or '-', such as 'default'"
        )
    if name in adapter_names(model):
        raise ValueError(f"the model has an adapter {name!r} already; give another name")
    _require_unmerged(model)


def _require_unmerged(model: Model) -> None:
    merged = {name for _, layer in lora_linears(model) for name in layer.merged}
    if merged:
        raise ValueError(
            f"the adapter {min(merged)!r} is merged; expected none; call unmerge_lora(model) or "
            "remove_adapters(model) first"
        )


def _listed(names: str | Sequence[str]) -> Iterator[str]:
    yield from [names] if isinstance(names, str) else names


def _draw_pair(model: Model, place: Place, settings: LoraSettings) -> LoraPair:
    layer = adaptable_linear(model, place)
    down = _empty(layer.weight, settings.rank, layer.in_features)
    up = _empty(layer.weight, place.num_rows, settings.rank)
    return LoraPair(
        nn.init.kaiming_uniform_(down, a=math.sqrt(5)),
        nn.init.zeros_(up),
        begin=place.begin,
        alpha=settings.alpha,
        use_rslora=settings.use_rslora,
        dropout=settings.dropout,
    )


def _empty(base: BaseWeight, *shape: int) -> Tensor:
    """In fp32, or fp64 where the base is."""
    if isinstance(base, QuantizedTensors):
        return base.scales.new_empty(shape)
    if not isinstance(base, Tensor):
        return torch.empty(shape)
    return base.new_empty(shape, dtype=torch.promote_types(base.dtype, torch.float32))
