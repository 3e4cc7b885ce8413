"""Classifiers that read the states of certain places: where padding is at one, a call stays padded.

Packed layers do not compute the states of padding. The first place of a row is padding where
encoders are padded on the left, the last one that holds another id than `pad_token_id` where
decoders are padded with something else.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from weldlm.patching.installed import arguments_by_name
from weldlm.patching.stacks import UNPACKABLE

__all__ = ["classify", "end_places", "first_places", "last_places"]

# (model, its arguments by name, the mask of the states it reads) -> places read, bool [B, S]
Places = Callable[[Any, dict[str, Any], Tensor], Tensor]


def classify(model: Any, names: tuple[str, ...], places: Places, *args: Any, **kwargs: Any) -> Any:
    """The forward of a classifier, told to keep padding where it reads the states of padding."""
    call = arguments_by_name(model, names, args, kwargs)
    mask = call.get("decoder_attention_mask" if places is end_places else "attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2 and _reads_padding(places, model, call, mask):
        call[UNPACKABLE] = True
    return type(model).forward(model, **call)


def first_places(model: Any, _: dict[str, Any], mask: Tensor) -> Tensor:
    """The first place of each row; none for the mean of real tokens (ModernBERT)."""
    is_read = torch.zeros_like(mask, dtype=torch.bool)
    is_read[:, :1] = getattr(model.config, "classifier_pooling", "cls") == "cls"
    return is_read


def last_places(model: Any, call: dict[str, Any], mask: Tensor) -> Tensor:
    """The last place of each row whose id is not `pad_token_id`; of embeddings the last of all."""
    ids, pad_token_id = call.get("input_ids"), model.config.get_text_config().pad_token_id
    columns = torch.arange(mask.shape[1], device=mask.device)
    if ids is None or pad_token_id is None or ids.shape != mask.shape:
        return (columns == mask.shape[1] - 1).expand(mask.shape)
    last = (columns * (ids != pad_token_id).to(mask.device)).argmax(dim=1, keepdim=True)
    is_read: Tensor = columns == last
    return is_read


def end_places(model: Any, call: dict[str, Any], mask: Tensor) -> Tensor:
    """The places of `eos_token_id` in `input_ids`, at which states of the decoder are read."""
    ids = call.get("input_ids")
    if ids is None or ids.shape != mask.shape:
        return torch.ones_like(mask, dtype=torch.bool)
    is_read: Tensor = ids.to(mask.device) == model.config.eos_token_id
    return is_read


def _reads_padding(places: Places, model: Any, call: dict[str, Any], mask: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False  # nothing is packed
    return bool((places(model, call, mask) & (mask == 0)).any())
