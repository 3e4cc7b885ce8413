"""Tiny models of transformers beside ours with the same weights, and a text for both."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.engine.patched_models import tiny_model
from weldlm.heads import CausalLM, MaskedLM, Model, Seq2SeqLM
from weldlm.inspect import Sample
from weldlm.weights import load_pretrained

__all__ = ["IDS", "TARGET_IDS", "both_models", "their_arguments", "their_call"]

IDS = torch.tensor([5, 17, 90, 33, 6, 41, 72, 8, 55, 20, 61])
TARGET_IDS = torch.tensor([2, 44, 19, 80, 7])  # the first starts a target

_HEADS: dict[str, type[Model]] = {"bert": MaskedLM, "roberta": MaskedLM, "modernbert": MaskedLM}
_ENCODER_DECODERS = ("t5", "t5-v1.1", "bart")


def both_models(family: str, folder: Path) -> tuple[Any, Any, Sample]:
    """Theirs, ours, and the sample that `their_arguments` is for them."""
    theirs = tiny_model(family, "eager")
    theirs.save_pretrained(folder)
    if family in _ENCODER_DECODERS:
        return theirs, load_pretrained(folder, Seq2SeqLM).eval(), Sample(IDS, TARGET_IDS)
    return theirs, load_pretrained(folder, _HEADS.get(family, CausalLM)).eval(), Sample(IDS)


def their_arguments(theirs: Any) -> dict[str, Tensor]:
    arguments = {"input_ids": IDS.unsqueeze(0)}
    if theirs.config.is_encoder_decoder:
        arguments["decoder_input_ids"] = TARGET_IDS.unsqueeze(0)
    return arguments


@torch.no_grad()
def their_call(theirs: Any, **options: bool) -> Any:
    """Attention or hidden states of their forward, by the names that they have there."""
    return theirs(**their_arguments(theirs), **options)
