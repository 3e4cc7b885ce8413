"""Attention maps, and how they add up over layers (Abnar & Zuidema 2020, arXiv:2005.00928)."""

from typing import Any

import torch
from torch import Tensor

from weldlm.heads import Model
from weldlm.inspect.sample import AttentionKind, Sample, attention_layers, hooked, last_stack
from weldlm.layers import Attention, CrossAttention

__all__ = ["attention_maps", "attention_rollout"]


@torch.no_grad()
def attention_maps(model: Model, sample: Sample) -> dict[AttentionKind, Tensor]:
    """Returns how much each token looks at each: [num_layers, num_heads, queries, keys] a kind.

    The forward is that of the model; the probabilities, which fused kernels never hold, are
    computed a second time by the reference.

    Args:
        model: any.
        sample: with a target for an encoder-decoder, whose kinds are encoder, decoder and cross;
            the one kind of others is self.
    """
    inputs, layers = sample.inputs(model), attention_layers(model)
    found: dict[Any, Tensor] = {}

    def keep(layer: Attention | CrossAttention, arguments: Any) -> None:
        (found[layer],) = layer.probabilities(*arguments)

    every = [layer for group in layers.values() for layer in group]
    with hooked(before=[(layer, keep) for layer in every]):
        _run(model, inputs)
    return {
        kind: torch.stack([found[layer] for layer in group]).cpu() for kind, group in layers.items()
    }


def attention_rollout(maps: Tensor) -> Tensor:
    """Returns how much of each token's state comes from each token of the input, by attention.

    The rows of a layer are 0.5 (mean over heads) + 0.5 I, made to sum to 1 and multiplied by those
    of the layers below: the residual stream carries a half.

    Args:
        maps: [num_layers, num_heads, T, T], of one stack's attention to itself.

    Returns:
        [num_layers, T, T] up to each layer.

    Raises:
        ValueError: queries and keys are not the same tokens.
    """
    if maps.dim() != 4 or maps.shape[2] != maps.shape[3]:
        raise ValueError(
            f"maps has shape {tuple(maps.shape)}; expected [num_layers, num_heads, T, T], attention"
            " of a stack to itself"
        )
    mixed = 0.5 * maps.mean(dim=1) + 0.5 * torch.eye(maps.shape[2], dtype=maps.dtype)
    mixed = mixed / mixed.sum(dim=-1, keepdim=True)
    rolled = [mixed[0]]
    for layer in mixed[1:]:
        rolled.append(layer @ rolled[-1])
    return torch.stack(rolled)


def _run(model: Model, inputs: Any) -> None:
    """The stacks without the head, which adds nothing to attention."""
    if len(inputs) == 1:
        last_stack(model)(inputs[0])
    else:
        model.logits(*inputs)  # type: ignore[operator]
