"""Where adapters can go: the linear layers of a model, and what they are called.

A linear layer of ours may hold several of the Hugging Face format, one below the other (q, k and v;
gate and up). Each of those is a place of its own, so that every adapter has a PEFT folder.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from weldlm.families import FAMILIES, HeadFormat, Rule, split_sizes, tensor_rules
from weldlm.heads import Model
from weldlm.layers import LoraLinear, PackedLinear, QuantizedLinear

__all__ = [
    "BODIES",
    "AdaptableLinear",
    "Place",
    "adaptable_linear",
    "head_rules",
    "places",
    "places_of",
]

BODIES = ("transformer.", "encoder.", "decoder.")  # how weights outside the head are called

AdaptableLinear = nn.Linear | QuantizedLinear | PackedLinear | LoraLinear

_WORDS = {
    "all": r"blocks\.",
    "attention": r"\.(cross_)?attention\.",
    "cross_attention": r"\.cross_attention\.",
    "mlp": r"\.mlp\.",
}
# their weights go into a fused loss, past the layer
_OUTPUTS = ("head", "classifier")
_NO_HEAD = HeadFormat("")


@dataclass(frozen=True, slots=True)
class Place:
    """A linear layer of the Hugging Face format inside one of ours."""

    module: str  # our layer's name in the model
    theirs: str  # their layer's name
    begin: int  # its first row in our weight
    num_rows: int

    @property
    def part(self) -> str:
        """The last word of their name, which is unique inside our layer."""
        return self.theirs.rpartition(".")[2]


def places(model: Model) -> list[Place]:
    """Returns all places of a model, those of one layer next to each other."""
    config, found = model.config, []
    for ours, rule in _rules(model):
        name = ours.removesuffix(".weight")
        if name == ours or name in _OUTPUTS:
            continue
        module = model.get_submodule(name)
        if not isinstance(module, AdaptableLinear):
            continue
        is_whole = len(rule.theirs) == 1
        sizes = [module.out_features] if is_whole else split_sizes(rule, config)
        begin = 0
        for theirs, num_rows in zip(rule.theirs, sizes, strict=True):
            layer = _their_name(theirs, model).removesuffix(".weight")
            found.append(Place(name, layer, begin, num_rows))
            begin += num_rows
    return found


def places_of(model: Model, targets: tuple[str, ...]) -> list[Place]:
    """Returns the places that `targets` name.

    Raises:
        ValueError: one of them names none.
    """
    every = places(model)
    for target in targets:
        if not any(_is_named(place, target) for place in every):
            raise ValueError(
                f"the target {target!r} names no linear layer of this {model.config.family} model; "
                f"expected one of {', '.join(_known(every))}, or a pattern over such names as "
                f"{every[0].module!r}"
            )
    return [place for place in every if any(_is_named(place, target) for target in targets)]


def adaptable_linear(model: Model, place: Place) -> AdaptableLinear:
    module = model.get_submodule(place.module)
    assert isinstance(module, AdaptableLinear)
    return module


def head_rules(model: Model) -> dict[str, Rule]:
    """Returns the rules of the head's own weights, by our names; their names as in the model."""
    return {
        ours: Rule(ours, tuple(_their_name(name, model) for name in rule.theirs))
        for ours, rule in _rules(model)
        if not ours.startswith(BODIES)
    }


def _rules(model: Model) -> list[tuple[str, Rule]]:
    family = FAMILIES[model.config.family]
    head = family.heads.get(model.kind, _NO_HEAD)
    return list(tensor_rules(model.config, family, head))


def _their_name(name: str, model: Model) -> str:
    """In the model of theirs with the same head; the bare transformer has no prefix."""
    is_bare = model.kind == "embedding"
    return name.removeprefix(FAMILIES[model.config.family].prefix) if is_bare else name


def _is_named(place: Place, target: str) -> bool:
    if target in _WORDS:
        return re.search(_WORDS[target], place.module) is not None
    if "*" in target:
        return fnmatchcase(place.module, target)
    return any(f".{name}".endswith(f".{target}") for name in (place.module, place.theirs))


def _known(every: list[Place]) -> list[str]:
    words = [word for word in _WORDS if any(_is_named(place, word) for place in every)]
    ours = {".".join(place.module.split(".")[-2:]) for place in every}
    return [*words, *sorted(ours), *sorted({place.part for place in every})]
