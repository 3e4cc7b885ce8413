"""A new head on a pretrained body."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from weldlm.adapters.places import BODIES
from weldlm.config import HeadKind, ModelConfig
from weldlm.families import FAMILIES, tensor_rules
from weldlm.heads import HEADS, Model
from weldlm.layers import LoraLinear, QuantizedLinear
from weldlm.weights.model_json import head_format
from weldlm.weights.model_path import StoredModel, open_model
from weldlm.weights.new_weights import build_without_weights, draw_weight, fill_shared
from weldlm.weights.pretrained import drawn_names, load_stored
from weldlm.weights.tensor_source import TensorSource

__all__ = ["HeadReport", "with_head"]

# what gives the scores; the layers before it are kept where the pretrained head has the same
_OUTPUTS = ("classifier.", "head.", "head_bias")


@dataclass(frozen=True, slots=True)
class HeadReport:
    """What became of the head's weights."""

    drawn: tuple[str, ...]  # ours, from torch's generator
    kept: tuple[str, ...]  # ours, from the pretrained head
    dropped: tuple[str, ...]  # of the pretrained head; by their names where it comes from a folder


def with_head(
    source: Model | str | Path,
    kind: HeadKind,
    *,
    num_labels: int | None = None,
    labels: Sequence[str] | None = None,
) -> tuple[Model, HeadReport]:
    """Puts a fresh head on a pretrained body.

    Args:
        source: a model, whose body the new one shares, or what `load_pretrained` takes.
        kind: of the head.
        num_labels: of a classifier; they are called LABEL_0, LABEL_1 and so on.
        labels: their names.

    Returns:
        The model, and what was drawn, kept and dropped.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: there is no such kind, the model's family has no such head, the numbers of
            labels differ, or the body has adapters or quantized weights.
    """
    if kind not in HEADS:
        raise ValueError(f"the kind of head {kind!r} does not exist; expected {', '.join(HEADS)}")
    names = _label_names(num_labels, labels)
    if isinstance(source, Model):
        return _on_model(source, HEADS[kind], _with_labels(source.config, names))
    return _on_folder(open_model(source), HEADS[kind], names)


def _label_names(num_labels: int | None, labels: Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is not None:
        if isinstance(labels, str) or (num_labels is not None and num_labels != len(labels)):
            raise ValueError(
                f"labels is {labels!r} and num_labels {num_labels}; expected a list of that many "
                "names, or one of the two"
            )
        return tuple(labels)
    if num_labels is None:
        return None
    if num_labels < 1:
        raise ValueError(f"num_labels is {num_labels}; expected at least 1")
    return tuple(f"LABEL_{place}" for place in range(num_labels))


def _with_labels(config: ModelConfig, labels: tuple[str, ...] | None) -> ModelConfig:
    return config if labels is None else dataclasses.replace(config, labels=labels)


def _on_model(source: Model, head: type[Model], config: ModelConfig) -> tuple[Model, HeadReport]:
    head_format(config, head)
    for name, module in source.named_modules():
        if isinstance(module, LoraLinear | QuantizedLinear):
            raise ValueError(
                f"{name} of the body has adapters or a quantized weight; expected plain layers; "
                "add them to the model with the new head"
            )
    model = build_without_weights(head, config)
    theirs = dict(source.named_parameters(remove_duplicate=False))
    first = next(source.parameters())
    state: dict[str, Tensor] = {}
    drawn: list[str] = []
    for name, weight in model.named_parameters():
        is_body = name.startswith(BODIES)
        if is_body or (not name.startswith(_OUTPUTS) and _has_equal_shape(theirs, name, weight)):
            state[name] = theirs[name]
        else:
            state[name] = draw_weight(name, weight).to(first.device, first.dtype)
            drawn.append(name)
    fill_shared(model, state)
    model.load_state_dict(state, assign=True)
    heads = {name for name in theirs if not name.startswith(BODIES)}
    kept = heads & (state.keys() - set(drawn))
    report = HeadReport(tuple(drawn), tuple(sorted(kept)), tuple(sorted(heads - kept)))
    return model.to(first.device).train(source.training), report


def _has_equal_shape(weights: Mapping[str, Tensor], name: str, weight: Tensor) -> bool:
    return name in weights and weights[name].shape == weight.shape


class _BodyTensors:
    """The tensors of a source less those that give a head's scores."""

    def __init__(self, source: TensorSource, hidden: set[str]) -> None:
        self._source, self._hidden = source, hidden
        self.dtype = source.dtype

    @property
    def names(self) -> list[str]:
        return [name for name in self._source.names if name not in self._hidden]

    def __contains__(self, name: object) -> bool:
        return name in self._source and name not in self._hidden

    def shape(self, name: str) -> tuple[int, ...]:
        return self._source.shape(name)

    def stored_as(self, name: str) -> str:
        return self._source.stored_as(name)

    def read(self, name: str) -> Tensor:
        return self._source.read(name)


def _on_folder(
    stored: StoredModel, head: type[Model], labels: tuple[str, ...] | None
) -> tuple[Model, HeadReport]:
    config = _with_labels(stored.config, labels)
    family, form = FAMILIES[config.family], head_format(config, head)
    rules = dict(tensor_rules(config, family, form))
    outputs = {
        name for ours, rule in rules.items() if ours.startswith(_OUTPUTS) for name in rule.theirs
    }
    files = _BodyTensors(stored.tensors, outputs)
    drawn = drawn_names(rules, files)
    model = load_stored(
        dataclasses.replace(stored, tensors=files),
        head,
        labels=labels,
        has_new_head=True,
        device="cpu",
        dtype=None,
        report=None,
    )
    kept = [ours for ours in rules if not ours.startswith(BODIES) and ours not in drawn]
    read = {name for ours, rule in rules.items() if ours not in drawn for name in rule.theirs}
    dropped = sorted(set(stored.tensors.names) - read)
    return model, HeadReport(tuple(drawn), tuple(kept), tuple(dropped))
