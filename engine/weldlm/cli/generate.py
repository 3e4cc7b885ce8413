"""`weldlm generate`: complete a prompt, or a file of prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import default_device, load_model
from weldlm.cli.options import device_option, given

if TYPE_CHECKING:
    from weldlm.generation import GenerativeModel
    from weldlm.sampling import SamplingSettings
    from weldlm.tokenizer import Tokenizer

__all__ = ["generate"]

EXIT_FAILED_ROWS = 3

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Complete a prompt, or a file of prompts.")
@click.option(
    "--model", required=True, type=click.Path(path_type=Path), help="Model folder or file."
)
@click.option("--prompt", help="Text to go on from; its completion is streamed.")
@click.option("-i", "--input", "source", type=_FILE, help="Prompts: text lines, or JSON lines.")
@click.option("-o", "--output", "target", type=_FILE, help="JSON lines to write, with --input.")
@click.option("--max-tokens", type=int, help="Most new tokens.  [default: 128]")
@click.option("--temperature", type=float, help="0 takes the most probable token.  [default: 0]")
@click.option("--top-k", type=int, help="Keep the k most probable tokens; 0 keeps all.")
@click.option("--top-p", type=float, help="Keep the most probable tokens up to this probability.")
@click.option("--min-p", type=float, help="Keep tokens of this share of the best's probability.")
@click.option("--seed", type=int, help="Of the random draws.  [default: 0]")
@click.option("--stop", multiple=True, help="Text that ends a completion; may be repeated.")
@click.option("--batch-size", default=16, show_default=True, help="Prompts at a time.")
@device_option
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Of weights.")
def generate(
    model: Path,
    prompt: str | None,
    source: Path | None,
    target: Path | None,
    batch_size: int,
    device: str | None,
    dtype: str | None,
    **options: Any,
) -> int:
    """Complete a prompt, or a file of prompts.

    \b
    Examples:
      weldlm generate --model run/model --prompt "def main("
      weldlm generate --model SmolLM2-135M-Instruct.Q4_1.gguf --prompt "Once"
      weldlm generate --model run/model -i prompts.txt -o completions.jsonl

    A model is a Hugging Face folder, a GGUF file or a folder with one, or a .bin model of llama2.c
    with its vocabulary beside it. An encoder-decoder (T5, BART) reads the prompt and writes a text
    of its own, which alone is printed.

    A file of prompts that was stopped before its end goes on with the same command. Exit code 3:
    the file is done, but some of its rows are error rows.
    """
    import torch

    from weldlm.sampling import SamplingSettings

    if (prompt is None) == (source is None):
        raise click.UsageError("give either --prompt or --input")
    if (source is None) != (target is None):
        raise click.UsageError("--input and --output go together")
    settings = SamplingSettings(**given(options))
    weights_dtype = getattr(torch, dtype) if dtype else None
    language_model, tokenizer = load_model(model, default_device(device), weights_dtype)
    if prompt is not None:
        return _stream(language_model, tokenizer, prompt, settings)
    from weldlm.batch_job import JobFiles, run_batch_job
    from weldlm.cli.terminal import StepBar

    assert source is not None
    assert target is not None
    files = JobFiles(source, target)
    try:
        with StepBar("completing prompts") as bar:
            counts = run_batch_job(
                language_model,
                tokenizer,
                files,
                settings,
                batch_size=batch_size,
                report=bar.update,
            )
    except KeyboardInterrupt:
        if files.partial.exists():
            click.echo(f"{files.partial} keeps the rows; the same command goes on", err=True)
        raise
    click.echo(f"{target}: {counts.num_completed} completed, {counts.num_failed} failed", err=True)
    return EXIT_FAILED_ROWS if counts.num_failed else 0


def _stream(
    model: "GenerativeModel", tokenizer: "Tokenizer", prompt: str, settings: "SamplingSettings"
) -> int:
    from weldlm.generation import stream

    pieces = stream(model, tokenizer, prompt, settings)  # checks the prompt
    if not model.config.has_cross_attention:  # else it is no part of the text
        click.echo(prompt, nl=False)
    for piece in pieces:
        click.echo(piece, nl=False)
    click.echo()
    return 0
