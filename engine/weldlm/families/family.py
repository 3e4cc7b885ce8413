"""What a family is: a translation of `config.json` both ways, and rules for tensor names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weldlm.config import Activation, HeadKind, ModelConfig, RotaryScaling

__all__ = [
    "Family",
    "HeadFormat",
    "Json",
    "Rule",
    "layer_types",
    "lm_head_rules",
    "read_activation",
    "read_rotary",
    "read_scaling",
    "read_window",
    "with_bias",
    "write_activation",
    "write_rotary",
]

Json = dict[str, Any]

# theirs -> ours; "gelu_new" and its aliases are the tanh approximation
_ACTIVATION_NAMES: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One of our tensors and those of theirs that it holds, one below the other."""

    ours: str  # `{layer}` stands for the block's number
    theirs: tuple[str, ...]
    is_transposed: bool = False  # they keep [in, out] where we keep [out, in]
    first_layer: int = 0  # blocks before it lack the tensor
    is_row: bool = False  # they keep [1, size] where we keep [size]


@dataclass(frozen=True, slots=True)
class HeadFormat:
    """How a model with a head is called and what the head's tensors are."""

    architecture: str
    rules: Callable[[ModelConfig], list[Rule]] = lambda _: []


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A Hugging Face model type."""

    tokens: str  # the tensor that a tied head shares
    prefix: str  # of every tensor but those of heads; files of the bare transformer lack it
    rules: Callable[[ModelConfig], list[Rule]]  # without heads
    heads: Mapping[HeadKind, HeadFormat]
    head_prefixes: tuple[str, ...]  # of the tensors of all their heads
    read: Callable[[Json], ModelConfig]
    write: Callable[[ModelConfig], Json]
    required: Json  # fields whose other values change the maths in a way we do not support
    ignored: tuple[str, ...] = ()  # endings of tensors that are constants, not weights
    zero: tuple[str, ...] = ()  # tensors without which we get along while they are zero
    renamed: Mapping[str, str] = field(default_factory=dict)  # old endings of tensor names


def read_activation(name: str) -> Activation:
    if name not in _ACTIVATION_NAMES:
        known = ", ".join(_ACTIVATION_NAMES)
        raise ValueError(f"activation {name!r} is not supported; expected one of {known}")
    return _ACTIVATION_NAMES[name]


def write_activation(activation: Activation) -> str:
    return next(theirs for theirs, ours in _ACTIVATION_NAMES.items() if ours == activation)


def with_bias(ours: str, *theirs: str, has_bias: bool, is_transposed: bool = False) -> list[Rule]:
    weight = Rule(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs), is_transposed)
    bias = Rule(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs))
    return [weight, bias] if has_bias else [weight]


def lm_head_rules(config: ModelConfig) -> list[Rule]:
    """The head's own weight, where it does not share the embedding's."""
    return [] if config.tie_embeddings else [Rule("head.weight", ("lm_head.weight",))]


def read_rotary(theirs: Json, default_base: float) -> tuple[float, RotaryScaling | None]:
    """Base and scaling from `rope_parameters`, or from `rope_theta` and `rope_scaling`."""
    rope: Json = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
    base = rope.get("rope_theta") or theirs.get("rope_theta", default_base)
    return base, read_scaling(rope)


def read_scaling(rope: Json) -> RotaryScaling | None:
    kind = rope.get("rope_type") or rope.get("type", "default")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(
            f"partial_rotary_factor {rope['partial_rotary_factor']} is not supported; expected 1.0"
        )
    if kind == "default":
        return None
    if kind == "linear":
        return RotaryScaling(kind="linear", factor=rope["factor"])
    if kind == "llama3":
        return RotaryScaling(
            kind="llama3",
            factor=rope["factor"],
            low_frequency_factor=rope["low_freq_factor"],
            high_frequency_factor=rope["high_freq_factor"],
            original_context_length=rope["original_max_position_embeddings"],
        )
    raise ValueError(
        f"rope_type {kind!r} is not supported; expected 'default' (no scaling), 'linear' or "
        "'llama3'"
    )


def write_rotary(base: float, scaling: RotaryScaling | None) -> Json:
    if scaling is None:
        return {"rope_theta": base, "rope_type": "default"}
    theirs: Json = {"rope_theta": base, "rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        theirs |= {
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        }
    return theirs


def read_window(layer_types: list[str]) -> tuple[bool, ...]:
    """The shortest pattern of windowed layers whose repetition gives `layer_types`."""
    known = {"full_attention": False, "sliding_attention": True}
    for name in layer_types:
        if name not in known:
            raise ValueError(
                f"layer type {name!r} is not supported; expected full_attention or "
                "sliding_attention"
            )
    flags = tuple(known[name] for name in layer_types)
    for period in range(1, len(flags) + 1):
        if all(flag == flags[layer % period] for layer, flag in enumerate(flags)):
            return flags[:period]
    return (False,)


def layer_types(config: ModelConfig) -> list[str]:
    """How they say which layers have the window."""
    windows = [config.window_of(layer) for layer in range(config.num_layers)]
    return ["full_attention" if window is None else "sliding_attention" for window in windows]
