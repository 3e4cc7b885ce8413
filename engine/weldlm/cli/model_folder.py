"""A finished model as the commands leave it and read it: weights, configuration, tokenizer."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from weldlm.heads import CausalLM
    from weldlm.tokenizer import Tokenizer

__all__ = ["default_device", "keep_model", "load_model", "load_tokenizer"]


def default_device(device: str | None) -> str:
    """Returns `device`, or the GPU if there is one, else the CPU.

    Raises:
        ValueError: the device does not exist here.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.empty(0, device=device).device.type
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} is not available here; use cpu") from error
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}; expected cpu or cuda")
    return device


def keep_model(model: "CausalLM", tokenizer: "Tokenizer", folder: Path) -> None:
    """Writes a folder that `load_model` and transformers read, in place of one that was there."""
    from weldlm.sealed_folder import replace_folder
    from weldlm.weights import save_pretrained

    with replace_folder(folder) as draft:
        save_pretrained(model, draft)
        tokenizer.save(draft / "tokenizer.json")


def load_model(
    folder: Path, device: str, dtype: "torch.dtype | None"
) -> tuple["CausalLM", "Tokenizer"]:
    """Reads a folder with a model and its tokenizer."""
    from weldlm.tokenizer import Tokenizer
    from weldlm.weights import load_pretrained

    model = load_pretrained(folder, device=device, dtype=dtype)
    return model.eval(), Tokenizer.from_pretrained(folder)


def load_tokenizer(path: Path) -> "Tokenizer":
    """Reads the file of a tokenizer, or the one in a folder."""
    from weldlm.tokenizer import Tokenizer

    return Tokenizer.from_pretrained(path) if path.is_dir() else Tokenizer.from_file(path)
