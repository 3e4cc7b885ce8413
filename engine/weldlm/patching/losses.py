"""Language models whose loss needs no logits.

A forward with labels runs the stack, drops rows without a label, and takes the loss and its
gradients from `linear_cross_entropy`; the logits in its output are computed when asked for. Every
other forward is the model's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldlm.patching.installed import arguments_by_name
from weldlm.patching.lazy_output import LazyLogits, lazy_output
from weldlm.patching.stacks import UNPACKABLE
from weldlm_kernels import linear_cross_entropy

__all__ = ["LossSpec", "language_loss"]

_NO_LABEL = -100


@dataclass(frozen=True, slots=True)
class LossSpec:
    """Where a class of language models keeps what its loss is made of."""

    output: str  # class in transformers.modeling_outputs
    states: Callable[[Any, dict[str, Any]], tuple[Tensor, dict[str, Any]]]
    projection: str  # the linear layer onto the vocabulary
    transform: Callable[[Any, Tensor], Tensor] | None = None  # of the states before it
    is_shifted: bool = False  # the label of a token is the next token
    counts_items: bool = True  # the loss is divided by num_items_in_batch where that is given
    bias: str | None = None  # [1, vocab_size], added to the logits
    mask: str = "attention_mask"  # of the tokens whose states are projected


def language_loss(
    model: Any, names: tuple[str, ...], spec: LossSpec, *args: Any, **kwargs: Any
) -> Any:
    """The forward of a language model."""
    from transformers import modeling_outputs

    call = arguments_by_name(model, names, args, kwargs)
    if call.get("labels") is None:
        return type(model).forward(model, **call)
    targets = _targets(spec, call)
    if _reads_padding(spec, call, targets):
        call[UNPACKABLE] = True
    if not _is_fused(model, spec, call):
        return type(model).forward(model, **call)
    _check_labels(targets, vocab_size=model.get_submodule(spec.projection).weight.shape[0])
    if "use_cache" in names and call.get("use_cache") is None:
        call["use_cache"] = False
    call.pop("logits_to_keep", None)
    call.pop("return_dict", None)
    items = call.get("num_items_in_batch") if spec.counts_items else None
    states, others = spec.states(model, call)
    loss = _loss(model, spec, states, targets.flatten().to(states.device), items)

    def logits() -> Tensor:
        transformed = states if spec.transform is None else spec.transform(model, states)
        projected: Tensor = model.get_submodule(spec.projection)(transformed)
        return projected if spec.bias is None else projected + getattr(model, spec.bias)

    output = getattr(modeling_outputs, spec.output)
    fields = {name: value for name, value in others.items() if name in output.__dataclass_fields__}
    if torch.compiler.is_compiling():
        return output(loss=loss, logits=logits(), **fields)
    lazy = LazyLogits(logits, states.device.type)
    return lazy_output(spec.output, loss=loss, logits=lazy, **fields)


def _is_fused(model: Any, spec: LossSpec, call: dict[str, Any]) -> bool:
    projection = model.get_submodule(spec.projection)
    hooks = (
        projection._forward_hooks,
        projection._forward_pre_hooks,
        projection._backward_hooks,
        projection._backward_pre_hooks,
    )
    keep = call.get("logits_to_keep")
    return (
        call.get("encoder_outputs") is None
        and (keep is None or (isinstance(keep, int) and keep == 0))
        and call.get("return_dict", model.config.return_dict) is not False
        # an adapter, a hook or a shard of the weight sees no call
        and type(projection) is nn.Linear
        and not any(hooks)
        and "forward" not in vars(projection)
        and type(projection.weight) in (nn.Parameter, Tensor)
        and (not spec.counts_items or _has_standard_loss(model, spec))
    )


def _has_standard_loss(model: Any, spec: LossSpec) -> bool:
    """Whether `model.loss_function` is what transformers has for such models."""
    known = (None, "ForCausalLM") if spec.is_shifted else ("ForMaskedLM",)
    return "_loss_function" not in vars(model) and model.loss_type in known


def _targets(spec: LossSpec, call: dict[str, Any]) -> Tensor:
    """The id that each state is to predict, [B, S]; `_NO_LABEL` where none."""
    labels: Tensor = call["labels"]
    ignored = call.get("ignore_index", _NO_LABEL) if spec.counts_items else _NO_LABEL
    if spec.is_shifted:
        shifted: Tensor | None = call.get("shift_labels")
        labels = (
            functional.pad(labels, (0, 1), value=ignored)[..., 1:] if shifted is None else shifted
        )
    return labels if ignored == _NO_LABEL else labels.masked_fill(labels == ignored, _NO_LABEL)


def _check_labels(targets: Tensor, *, vocab_size: int) -> None:
    """Before a decoder embeds them. Not where looking costs a synchronization."""
    if targets.device.type != "cpu" or torch.compiler.is_compiling():
        return
    is_outside = ((targets < 0) & (targets != _NO_LABEL)) | (targets >= vocab_size)
    if is_outside.any():
        raise ValueError(
            f"labels hold the id {targets[is_outside][0].item()}; expected ids from 0 to "
            f"{vocab_size - 1} (vocab_size - 1), or {_NO_LABEL} where there is no label"
        )


def _reads_padding(spec: LossSpec, call: dict[str, Any], targets: Tensor) -> bool:
    """Whether the loss depends on the states of padding, which packed layers do not compute."""
    mask = call.get(spec.mask)
    if not isinstance(mask, Tensor) or mask.shape != targets.shape:
        return False
    if torch.compiler.is_compiling():
        return False  # nothing is packed
    is_read = (targets != _NO_LABEL) & (mask == 0).to(targets.device)
    return bool(is_read.any())


def _loss(
    model: Any, spec: LossSpec, states: Tensor, targets: Tensor, items: Tensor | int | None
) -> Tensor:
    projection = model.get_submodule(spec.projection)
    rows = states.flatten(0, 1)
    if spec.transform is not None:
        if not torch.compiler.is_compiling():
            labelled = (targets != _NO_LABEL).nonzero().squeeze(1)
            rows, targets = rows.index_select(0, labelled), targets.index_select(0, labelled)
        rows = spec.transform(model, rows)
    device = rows.device.type
    if torch.is_autocast_enabled(device):
        rows = rows.to(torch.get_autocast_dtype(device))
    bias = projection.bias if spec.bias is None else getattr(model, spec.bias).squeeze(0)
    loss_sum, count = linear_cross_entropy(
        rows, projection.weight, targets, bias=bias, ignore_index=_NO_LABEL
    )
    if items is None:
        # without a label NaN, as PyTorch's mean, and as there with gradients of zero
        mean = loss_sum / count.clamp(min=1)
        return torch.where(count > 0, mean, float("nan"))
    return loss_sum / (items.to(loss_sum.device) if isinstance(items, Tensor) else items)
