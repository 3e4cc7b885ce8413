"""A student made of some of its teacher's layers."""

import dataclasses
import re
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from weldlm.config import ModelConfig
from weldlm.heads import Model
from weldlm.transformer import Transformer

__all__ = ["choose_layers", "shrink", "stacks"]

M = TypeVar("M", bound=Model)

_BLOCK = re.compile(r"^(.*\.blocks\.)(\d+)(\..*)$")


def choose_layers(num_layers: int, num_kept: int) -> list[int]:
    """Spreads `num_kept` layers evenly over `num_layers`, the first and the last among them.

    As DistilBERT and DistilBART start (Sanh et al. 2019, arXiv:1910.01108; Shleifer & Rush 2020,
    arXiv:2010.13002).

    Raises:
        ValueError: there are not that many.
    """
    if not 1 <= num_kept <= num_layers:
        raise ValueError(f"num_layers is {num_kept}; expected 1 to the teacher's {num_layers}")
    if num_kept == 1:
        return [0]
    return [round(i * (num_layers - 1) / (num_kept - 1)) for i in range(num_kept)]


def shrink(teacher: M, num_layers: int, num_encoder_layers: int | None = None) -> M:
    """Returns a student with fewer layers and copies of the teacher's weights.

    Args:
        teacher: any of ours, without adapters and not quantized.
        num_layers: of the student, or of its decoder.
        num_encoder_layers: of the encoder, where there is one besides; the same share of the
            teacher's where None.

    Raises:
        ValueError: the teacher has fewer, or windows that the student's layers would not have.
    """
    config = teacher.config
    small = dataclasses.replace(config, num_layers=num_layers)
    kept = {"decoder": choose_layers(config.num_layers, num_layers)}
    if config.num_encoder_layers:
        if num_encoder_layers is None:
            share = num_layers / config.num_layers
            num_encoder_layers = max(1, round(share * config.num_encoder_layers))
        kept["encoder"] = choose_layers(config.num_encoder_layers, num_encoder_layers)
        small = dataclasses.replace(small, num_encoder_layers=num_encoder_layers)
    elif num_encoder_layers is not None:
        raise ValueError("num_encoder_layers is of encoder-decoders; leave it out")
    _require_same_windows(config, small, kept["decoder"])
    student = type(teacher)(small)
    weights = teacher.state_dict()
    with torch.no_grad():
        student.load_state_dict(
            {name: weights[_name_in_teacher(name, kept)] for name in student.state_dict()}
        )
    return student.to(next(teacher.parameters()).device)


def stacks(model: nn.Module) -> list[nn.ModuleList]:
    """The blocks of every transformer of a model, the encoder's first."""
    return [part.blocks for part in model.modules() if isinstance(part, Transformer)]


def _name_in_teacher(name: str, kept: dict[str, list[int]]) -> str:
    found = _BLOCK.match(name)
    if found is None:
        return name
    stack = "encoder" if "encoder" in found[1].split(".") else "decoder"
    return f"{found[1]}{kept[stack][int(found[2])]}{found[3]}"


def _require_same_windows(teacher: ModelConfig, student: ModelConfig, kept: Sequence[int]) -> None:
    for layer, theirs in enumerate(kept):
        ours, expected = student.window_of(layer), teacher.window_of(theirs)
        if ours != expected:
            raise ValueError(
                f"layer {layer} of the student would have a window of {ours}, and the teacher's "
                f"layer {theirs}, from which it starts, {expected}; expected the same; choose "
                "another num_layers"
            )
