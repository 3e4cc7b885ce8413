"""A pretrained model with the adapter of a PEFT folder, for inference."""

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from weldlm.adapters.lora import lora_linears, merge_lora, remove_adapters
from weldlm.adapters.new_head import with_head
from weldlm.adapters.peft_folder import head_names, load_adapter, num_labels_of
from weldlm.heads import Model, SequenceClassifier
from weldlm.weights import load_pretrained, open_model

__all__ = ["load_adapted"]

M = TypeVar("M", bound=Model)


def load_adapted(
    path: str | Path,
    head: type[M],
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> M:
    """Reads a model and an adapter. In fp32 the adapter is merged, so that it costs nothing.

    Args:
        path: of the base model.
        head: what the model is for. A classifier's comes from the adapter where the base has none,
            or one with another number of labels, which are then called LABEL_0, LABEL_1 and so on.
        folder: of PEFT, with a LoRA adapter.
        device: where the weights go.
        dtype: of the base's weights; as stored where None. The adapter's are fp32.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the adapter is for another model or head, or uses what is not supported.
    """
    folder = Path(folder)
    model, drawn = _base(path, head, folder, device, dtype)
    load_adapter(model, folder)
    missing = sorted(set(drawn) - set(head_names(model, folder)))
    if missing:
        raise ValueError(
            f"neither {path} nor {folder} holds the weight {missing[0]}; expected an adapter that "
            "was saved with its head; give the base model that it was trained on"
        )
    has_plain_base = all(isinstance(layer.weight, Tensor) for _, layer in lora_linears(model))
    if has_plain_base and all(weight.dtype == torch.float32 for weight in model.parameters()):
        merge_lora(model)
        remove_adapters(model)
    return model.eval()


def _base(
    path: str | Path,
    head: type[M],
    folder: Path,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> tuple[M, tuple[str, ...]]:
    """The model, and weights of its head that are still to come."""
    if issubclass(head, SequenceClassifier):
        stored = open_model(path)
        num_labels = num_labels_of(stored.config, head, folder)
        is_new = stored.head != head.kind or num_labels != len(stored.config.labels)
        if num_labels is not None and is_new:
            model, report = with_head(path, head.kind, num_labels=num_labels)
            assert isinstance(model, head)
            return model.to(device, dtype), report.drawn
    return load_pretrained(path, head, device=device, dtype=dtype), ()
