"""A finished model as the commands leave it and read it: weights, configuration, tokenizer."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from weldlm.heads import CausalLM, Seq2SeqLM
    from weldlm.tokenizer import Tokenizer

__all__ = ["default_device", "keep_model", "load_model"]


def default_device(device: str | None) -> str:
    """Returns `device`, or the GPU if there is one, else the CPU.

    Raises:
        ValueError: the device does not exist here.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} is not available here; use cpu") from error
    return device


def keep_model(model: "CausalLM", tokenizer: "Tokenizer", folder: Path) -> None:
    """Writes a folder that `load_model` and transformers read."""
    from weldlm.weights import save_pretrained

    save_pretrained(model, folder)
    tokenizer.save(folder / "tokenizer.json")


def load_model(
    path: Path, device: str, dtype: "torch.dtype | None"
) -> tuple["CausalLM | Seq2SeqLM", "Tokenizer"]:
    """Reads a model that generates, and its tokenizer, from a folder or file."""
    from weldlm.heads import CausalLM, Seq2SeqLM
    from weldlm.tokenizer import Tokenizer
    from weldlm.weights import load_config, load_pretrained

    is_decoder = not load_config(path).has_cross_attention
    head: type[CausalLM] | type[Seq2SeqLM] = CausalLM if is_decoder else Seq2SeqLM
    model: CausalLM | Seq2SeqLM = load_pretrained(path, head, device=device, dtype=dtype)
    return model.eval(), Tokenizer.from_pretrained(path)
