"""A finished model as the commands leave it and read it: weights, configuration, tokenizer."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import torch

    from weldlm.callbacks import EvalReport
    from weldlm.data.prepare import Corpus
    from weldlm.heads import CausalLM, Model, Seq2SeqLM
    from weldlm.tokenizer import Tokenizer
    from weldlm.train_settings import TrainSettings

__all__ = [
    "adapter_option",
    "default_device",
    "describe_training",
    "draw_curve",
    "keep_model",
    "load_head",
    "load_model",
    "load_tokenizer",
    "model_option",
    "quantize_option",
    "require_run_folder",
]

M = TypeVar("M", bound="Model")

model_option = click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    help="Model folder or file, or the name smollm2.",
)

adapter_option = click.option(
    "--adapter", type=click.Path(path_type=Path), help="PEFT folder with a LoRA adapter."
)

quantize_option = click.option(
    "--quantize",
    type=click.Choice(["int8", "int4"]),
    help="Round the weights; less memory, and faster on a CPU.",
)


def default_device(device: str | None) -> str:
    """Returns `device`, or the GPU if there is one, else the CPU.

    Raises:
        ValueError: the device does not exist here.
    """
    import torch

    from weldlm.placement import require_device

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if require_device(device).type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}; expected cpu or cuda")
    return device


def keep_model(
    model: "Model", tokenizer: "Tokenizer", folder: Path, about: dict[str, Any] | None = None
) -> None:
    """Writes a folder that `load_model` and transformers read, in place of one that was there.

    With a model card and metrics.json, where there is something to say about the model.
    """
    from weldlm.model_card import write_pretrained_card
    from weldlm.sealed_folder import replace_folder
    from weldlm.weights import save_pretrained

    with replace_folder(folder) as draft:
        save_pretrained(model, draft)
        tokenizer.save(draft / "tokenizer.json")
        if about is not None:
            card = write_pretrained_card(model.kind, model.config, about)
            (draft / "README.md").write_text(card, encoding="utf-8")
            (draft / "metrics.json").write_text(
                json.dumps(about, indent=2) + "\n", encoding="utf-8"
            )


def describe_training(
    command: str,
    data: object,
    corpus: "Corpus",
    settings: "TrainSettings",
    heldout: "EvalReport | dict[str, float] | None",
) -> dict[str, Any]:
    """What `keep_model` says of a model that was trained on text."""
    figures: dict[str, float] = {}
    if isinstance(heldout, dict):
        figures = heldout
    elif heldout is not None:
        figures = {"loss": heldout.loss}
        if heldout.bits_per_byte is not None:
            figures["bits_per_byte"] = heldout.bits_per_byte
    return {
        "command": command,
        "data": str(data),
        "num_documents": corpus.train.num_documents,
        "num_tokens": corpus.train.num_tokens,
        "training": dataclasses.asdict(settings),
        "heldout": figures,
    }


def draw_curve(out: Path) -> None:
    """Draws the loss of the run in `out`; says so where its metrics.jsonl does not allow it."""
    from weldlm.loss_curve import draw_loss_curve

    try:
        draw_loss_curve(out / "metrics.jsonl", out / "loss.svg")
    except ValueError as error:
        click.echo(f"{out / 'loss.svg'} is not drawn: {error}", err=True)


def load_model(
    path: Path,
    device: str,
    dtype: "torch.dtype | None",
    adapter: Path | None = None,
    quantize: str | None = None,
) -> tuple["CausalLM | Seq2SeqLM", "Tokenizer"]:
    """Reads a model that generates, and its tokenizer, from a folder, a file or a package."""
    from weldlm.heads import CausalLM, Seq2SeqLM
    from weldlm.tokenizer import Tokenizer
    from weldlm.weights import load_config, path_of_model

    path = path_of_model(path)
    is_decoder = not load_config(path).has_cross_attention
    head: type[CausalLM] | type[Seq2SeqLM] = CausalLM if is_decoder else Seq2SeqLM
    model: CausalLM | Seq2SeqLM = load_head(path, head, device, dtype, adapter, quantize)
    return model, Tokenizer.from_pretrained(path)


def load_head(
    path: Path,
    head: type[M],
    device: str,
    dtype: "torch.dtype | None",
    adapter: Path | None,
    quantize: str | None = None,
) -> M:
    """Reads a model with a head for inference, with the adapter where there is one.

    Raises:
        ValueError: `quantize` is given, and the model is quantized already or `dtype` is of 16
            bits on a CPU, whose kernels take fp32.
    """
    if quantize is not None:
        return _load_quantized(path, head, device, dtype, adapter, quantize)
    from weldlm.adapters import load_adapted
    from weldlm.weights import load_pretrained

    if adapter is None:
        return load_pretrained(path, head, device=device, dtype=dtype).eval()
    return load_adapted(path, head, adapter, device=device, dtype=dtype)


def _load_quantized(
    path: Path,
    head: type[M],
    device: str,
    dtype: "torch.dtype | None",
    adapter: Path | None,
    quantize: str,
) -> M:
    import torch

    from weldlm.quantization import quantize_model

    if device == "cpu":
        if dtype not in (None, torch.float32):
            raise ValueError(
                f"--dtype is {str(dtype).removeprefix('torch.')} beside --quantize on a CPU; "
                "expected float32: leave it out"
            )
        dtype = torch.float32
    model = load_head(path, head, device, dtype, adapter)
    try:
        quantize_model(model, quantize)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return model


def load_tokenizer(path: Path) -> "Tokenizer":
    """Reads the file of a tokenizer, or the one in a folder."""
    from weldlm.tokenizer import Tokenizer

    return Tokenizer.from_pretrained(path) if path.is_dir() else Tokenizer.from_file(path)


def require_run_folder(out: Path, *, resume: bool) -> None:
    """Refuses a folder that holds something, unless a run is to go on there.

    Raises:
        ValueError: it holds something, or nothing to go on from.
    """
    holds_something = out.is_dir() and any(out.iterdir())
    if resume and not holds_something:
        raise ValueError(f"{out} holds no run to go on from; leave out --resume to start one")
    if not resume and holds_something:
        raise ValueError(f"{out} is not empty; pass --resume to go on, or another --out")
