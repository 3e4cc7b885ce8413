"""The rules of a whole model, blocks spelled out, and where their tensors lie inside ours."""

import dataclasses
from collections.abc import Iterator

from weldlm.config import ModelConfig
from weldlm.families.family import Family, HeadFormat, Rule

__all__ = ["split_sizes", "tensor_rules"]


def tensor_rules(
    config: ModelConfig, family: Family, head: HeadFormat
) -> Iterator[tuple[str, Rule]]:
    """Yields our tensor names with the rule that fills each."""
    for rule in [*family.rules(config), *head.rules(config)]:
        is_encoder = rule.ours.startswith("encoder.")
        num_layers = config.num_encoder_layers if is_encoder else config.num_layers
        is_per_layer = "{layer}" in rule.ours
        for layer in range(rule.first_layer, num_layers if is_per_layer else 1):
            ours = rule.ours.format(layer=layer)
            theirs = tuple(name.format(layer=layer) for name in rule.theirs)
            yield ours, dataclasses.replace(rule, ours=ours, theirs=theirs)


def split_sizes(rule: Rule, config: ModelConfig) -> list[int]:
    """Returns the rows of each of several tensors inside ours: q, k and v, k and v, gate and up."""
    kv = config.num_kv_heads * config.head_dim
    if len(rule.theirs) == 3:
        return [config.num_heads * config.head_dim, kv, kv]
    return [kv if "attention" in rule.ours else config.intermediate_size] * 2
