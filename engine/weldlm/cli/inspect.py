"""`weldlm inspect`: what goes on in a model that reads a text."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import adapter_option, default_device, load_head
from weldlm.cli.options import device_option
from weldlm.cli.terminal import StepBar

if TYPE_CHECKING:
    from weldlm.heads import Model
    from weldlm.inspect import Inspection, InspectSettings
    from weldlm.tokenizer import Tokenizer

__all__ = ["inspect"]

_ENDINGS = (".html", ".json", ".png")


@click.command(short_help="Show what goes on in a model that reads a text.")
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--text", required=True, help="What the model reads.")
@click.option(
    "--target-text", help="What an encoder-decoder writes. [default: what it writes itself]"
)
@click.option(
    "-o",
    "--output",
    "outputs",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that ends in .html, .json or .png; may be given several times.",
)
@click.option(
    "--what",
    help="Views with commas: attention, rollout, lens, attribution, ablation, neighbors. "
    "[default: all that the model's head allows]",
)
@click.option("--target", help="Token or label to explain. [default: the most probable]")
@click.option(
    "--position",
    "positions",
    type=int,
    multiple=True,
    help="Place of a token, from 0, whose prediction is explained; may be given several times.",
)
@click.option(
    "--num-steps",
    default=64,
    show_default=True,
    help="Of integrated gradients; doubled up to three times until they sum to the score.",
)
@click.option("--top-k", default=5, show_default=True, help="Tokens in the lens, and neighbors.")
@click.option("--max-length", default=128, show_default=True, help="Most tokens of a text.")
@adapter_option
@device_option
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of weights.",
)
def inspect(
    path: Path,
    text: str,
    target_text: str | None,
    outputs: tuple[Path, ...],
    what: str | None,
    target: str | None,
    positions: tuple[int, ...],
    num_steps: int,
    top_k: int,
    max_length: int,
    adapter: Path | None,
    device: str | None,
    dtype: str,
) -> None:
    """Show what goes on in MODEL when it reads a text.

    Attention maps and their rollout, what the head would say after each layer (logit lens), which
    tokens the answer comes from (integrated gradients), how much worse the model is without each
    attention head, and which tokens have similar embeddings: as a page that needs no network, as
    JSON, or as a picture (with matplotlib).

    \b
    Examples:
      weldlm inspect run/model --text "Once upon a time" -o page.html
      weldlm inspect bert --text "Paris is the [MASK] of France." -o page.html -o page.json
      weldlm inspect gpt --text "1 + 1 =" --target " 2" --what attribution,lens -o picture.png
    """
    from weldlm.inspect import InspectSettings

    _check_outputs(outputs)
    views: Any = None if what is None else tuple(part.strip() for part in what.split(","))
    settings = InspectSettings(
        what=views,
        target=target,
        positions=positions,
        num_steps=num_steps,
        top_k=top_k,
        max_length=max_length,
    )
    model, tokenizer = _load(path, adapter, device, dtype)
    seen = _look(model, tokenizer, (text, target_text), settings, path.resolve().name)
    for output in outputs:
        _writers()[output.suffix](seen, output)
    for note in seen.notes:
        click.echo(f"not shown: {note}", err=True)
    for output in outputs:
        click.echo(output)


def _check_outputs(outputs: tuple[Path, ...]) -> None:
    from weldlm.inspect import require_matplotlib

    for output in outputs:
        if output.suffix not in _ENDINGS:
            raise ValueError(f"output is {output}; expected a name that ends in .html, .json, .png")
        if not output.parent.is_dir():
            raise FileNotFoundError(f"{output.parent} does not exist; make the folder first")
    if any(output.suffix == ".png" for output in outputs):
        require_matplotlib()


def _writers() -> "dict[str, Callable[[Inspection, Path], None]]":
    from weldlm.inspect import write_page, write_picture, write_record

    return {".html": write_page, ".json": write_record, ".png": write_picture}


def _load(
    path: Path, adapter: Path | None, device: str | None, dtype: str
) -> "tuple[Model, Tokenizer]":
    """The model with the head that it was saved with, and its tokenizer."""
    import torch

    from weldlm.heads import HEADS
    from weldlm.tokenizer import Tokenizer
    from weldlm.weights import open_model, path_of_model

    path = path_of_model(path)
    head = HEADS[open_model(path).head]
    model = load_head(path, head, default_device(device), getattr(torch, dtype), adapter)
    return model, Tokenizer.from_pretrained(path)


def _look(
    model: "Model",
    tokenizer: "Tokenizer",
    texts: tuple[str, str | None],
    settings: "InspectSettings",
    name: str,
) -> "Inspection":
    from weldlm.inspect import inspect_text

    with StepBar("inspecting") as bar:
        return inspect_text(model, tokenizer, *texts, settings, model_name=name, report=bar.update)
