"""How much worse a model predicts without each of its attention heads (Michel et al. 2019).

A head is taken away by zeros in the place of what it hands to the output projection. Several copies
of the text, each without another head, pass the model in one packed batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weldlm.heads import (
    CausalLM,
    MaskedLM,
    Model,
    Projection,
    Seq2SeqLM,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm.inspect.sample import AttentionKind, Sample, attention_layers, hooked
from weldlm_kernels import linear_cross_entropy

__all__ = ["Ablation", "Head", "ablate_heads", "head_losses"]

_ABLATED = CausalLM | MaskedLM | Seq2SeqLM | SequenceClassifier | TokenClassifier


@dataclass(frozen=True, slots=True)
class Head:
    """One attention head of a model."""

    kind: AttentionKind
    layer: int
    head: int


@dataclass(frozen=True, slots=True)
class Ablation:
    """The mean cross-entropy of the labels, and how much it grows without each head."""

    loss: float  # nats a label
    changes: dict[AttentionKind, Tensor]  # [num_layers, num_heads]


def ablate_heads(
    model: Model,
    sample: Sample,
    labels: Tensor,
    *,
    max_batch_tokens: int = 1_024,
    report: Callable[[int, int], None] | None = None,
) -> Ablation:
    """Takes every head away, one at a time.

    Args:
        model: of language, or a classifier of sequences or tokens.
        sample: what it reads.
        labels: as the model's forward takes them, for the one sample; at least one is not -100.
        max_batch_tokens: in a forward; one copy of the sample is never divided.
        report: called with the number of heads done and of all heads.

    Raises:
        ValueError: the head of the model has no such loss, or there is no label.
    """
    layers = attention_layers(model)
    sizes = {kind: (len(group), model.config.num_heads) for kind, group in layers.items()}
    heads = [
        Head(kind, layer, head)
        for kind, (num_layers, num_heads) in sizes.items()
        for layer in range(num_layers)
        for head in range(num_heads)
    ]
    at_once = max(1, max_batch_tokens // sample.num_tokens)
    losses = [head_losses(model, sample, labels, [()])]
    for start in range(0, len(heads), at_once):
        part = heads[start : start + at_once]
        losses.append(head_losses(model, sample, labels, [(head,) for head in part]))
        if report is not None:
            report(start + len(part), len(heads))
    loss, *without = torch.cat(losses).tolist()
    changes, begin = {}, 0
    for kind, size in sizes.items():
        values = torch.tensor(without[begin : begin + size[0] * size[1]])
        changes[kind] = values.view(size) - loss
        begin += len(values)
    return Ablation(loss, changes)


@torch.no_grad()
def head_losses(
    model: Model, sample: Sample, labels: Tensor, ablated: Sequence[Sequence[Head]]
) -> Tensor:
    """Returns the mean cross-entropy without several heads, for each set of heads, [N] fp32.

    Raises:
        ValueError: as of `ablate_heads`, or the model has no such head.
    """
    if not isinstance(model, _ABLATED):
        raise ValueError(
            f"the model has the head {model.kind}; expected one of language, or a classifier, for "
            "the loss that ablation changes"
        )
    num_labels = int((labels != -100).sum())
    if not num_labels:
        raise ValueError("there is no label; expected at least one that is not -100")
    inputs = sample.inputs(model, len(ablated))
    repeated = labels.to(inputs[0].ids.device).repeat(len(ablated))
    project: Any = model.projection
    with hooked(before=_zeroing_hooks(model, ablated)):
        projection = project(*inputs, repeated)
    return torch.stack(_loss_sums(model, projection, len(ablated))).cpu() / num_labels


def _zeroing_hooks(model: Model, ablated: Sequence[Sequence[Head]]) -> list[Any]:
    layers, num_heads = attention_layers(model), model.config.num_heads
    masks: dict[Any, Tensor] = {}
    for copy, heads in enumerate(ablated):
        for head in heads:
            group = layers.get(head.kind, [])
            if not (0 <= head.layer < len(group) and 0 <= head.head < num_heads):
                sizes = ", ".join(
                    f"{len(group)} layers of {kind}" for kind, group in layers.items()
                )
                raise ValueError(
                    f"the model has no attention head {head.head} in layer {head.layer} of "
                    f"{head.kind}; it has {sizes} with {num_heads} heads each, counted from 0"
                )
            out = group[head.layer].out
            mask = masks.setdefault(out, torch.ones(len(ablated), num_heads))
            mask[copy, head.head] = 0.0
    return [(out, _zeroing(mask)) for out, mask in masks.items()]


def _zeroing(mask: Tensor) -> Callable[[Any, tuple[Tensor]], tuple[Tensor]]:
    """A hook that zeroes heads of copies in x [copies * T, H * D] by mask [copies, H]."""
    num_copies, num_heads = mask.shape

    def zero(_: Any, arguments: tuple[Tensor]) -> tuple[Tensor]:
        x = arguments[0]
        heads = x.view(num_copies, -1, num_heads, x.shape[1] // num_heads)
        return ((heads * mask.to(x).view(num_copies, 1, num_heads, 1)).view_as(x),)

    return zero


def _loss_sums(model: Model, projection: Projection, num_copies: int) -> list[Tensor]:
    """The summed cross-entropy of each copy, without holding its logits."""
    hidden, weight, labels, bias = (
        projection.hidden,
        projection.weight,
        projection.labels,
        projection.bias,
    )
    is_language = isinstance(model, CausalLM | MaskedLM | Seq2SeqLM)
    softcap = model.config.logits_softcap if is_language else None
    return [
        linear_cross_entropy(rows, weight, own, bias=bias, softcap=softcap)[0].float()
        for rows, own in zip(hidden.chunk(num_copies), labels.chunk(num_copies), strict=True)
    ]
