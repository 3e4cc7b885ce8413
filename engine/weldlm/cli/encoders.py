"""`weldlm embed`, `weldlm classify` and `weldlm fill-mask`: what encoders say of texts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import adapter_option, default_device, load_head, quantize_option
from weldlm.cli.options import device_option, dtype_option
from weldlm.cli.standard_files import as_file, open_stdout

if TYPE_CHECKING:
    from weldlm.encoder_job import EncoderJob
    from weldlm.job_output import JobFiles
    from weldlm.tokenizer import Tokenizer

__all__ = ["classify", "embed", "fill_mask"]

EXIT_FAILED_ROWS = 3

Command = Callable[..., Any]

_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_STANDARD = Path("-")


def _encoder_options(command: Command) -> Command:
    """Adds what the three commands share."""
    options = (
        click.option(
            "--model", required=True, type=click.Path(path_type=Path), help="Model folder or file."
        ),
        adapter_option,
        quantize_option,
        click.option(
            "-i", "--input", "source", required=True, type=_FILE, help="Texts; - is stdin."
        ),
        click.option(
            "-o", "--output", "target", required=True, type=_FILE, help="JSON lines; - is stdout."
        ),
        click.option("--format", "form", type=click.Choice(["jsonl", "txt"]), help="Of stdin."),
        click.option(
            "--max-batch-tokens", default=4_096, show_default=True, help="Most in a forward."
        ),
        device_option,
        dtype_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(short_help="Embed a file of texts.")
@_encoder_options
@click.option(
    "--pooling",
    type=click.Choice(["first", "last", "mean"]),
    help="[default: what the model's folder says, else mean]",
)
@click.option("--normalize/--no-normalize", default=True, help="Vectors of length 1.")
def embed(
    model: Path,
    adapter: Path | None,
    quantize: str | None,
    source: Path,
    target: Path,
    form: str | None,
    max_batch_tokens: int,
    device: str | None,
    dtype: str | None,
    pooling: str | None,
    normalize: bool,
) -> int:
    """Embed a file of texts: a .txt file with one a line, or {"text": text} in JSON lines.

    Each becomes {"index", "embedding"}, or a row of the array where the output is a .npy file; NaN
    there are rows with errors, which <output>.errors.jsonl names.

    \b
    Examples:
      weldlm embed --model minilm -i texts.txt -o vectors.npy
      cat rows.jsonl | weldlm embed --model minilm -i - -o vectors.jsonl
    """
    from weldlm.encoder_answers import embed_rows, name_array
    from weldlm.encoder_job import EncoderJob
    from weldlm.heads import SentenceEmbedder
    from weldlm.job_output import name_output
    from weldlm.weights import read_pooling

    _check_use(source, target, form, max_batch_tokens)
    settings: dict[str, Any] = {
        "pooling": pooling or read_pooling(model),
        "is_normalized": normalize,
        "max_batch_tokens": max_batch_tokens,
    }
    embedder, tokenizer = _load((model, adapter, quantize), SentenceEmbedder, device, dtype)
    job = EncoderJob(
        model=embedder,
        tokenizer=tokenizer,
        settings={"task": "embed", **settings},
        answer=partial(embed_rows, embedder, **settings),
    )
    finish = name_array if target.suffix == ".npy" else name_output
    return _run(job, source, target, form, "embedding texts", finish)


@click.command(short_help="Classify a file of texts.")
@_encoder_options
def classify(
    model: Path,
    adapter: Path | None,
    quantize: str | None,
    source: Path,
    target: Path,
    form: str | None,
    max_batch_tokens: int,
    device: str | None,
    dtype: str | None,
) -> int:
    """Classify a file of texts: a .txt file with one a line, or {"text": text} in JSON lines.

    Each becomes {"index", "label", "probability", "probabilities"}. For pairs, tags and answers,
    see weldlm predict.

    \b
    Examples:
      weldlm classify --model run/model -i texts.txt -o labels.jsonl
      cat rows.jsonl | weldlm classify --model run/model -i - -o - | jq .label
    """
    from weldlm.encoder_answers import classify_rows
    from weldlm.encoder_job import EncoderJob
    from weldlm.heads import SequenceClassifier
    from weldlm.weights import open_model

    _check_use(source, target, form, max_batch_tokens)
    head = open_model(model).head
    if head != "sequence_classification" and adapter is None:
        raise ValueError(f"{model} has the head {head}; expected one of sequence_classification")
    classifier, tokenizer = _load((model, adapter, quantize), SequenceClassifier, device, dtype)
    job = EncoderJob(
        model=classifier,
        tokenizer=tokenizer,
        settings={"task": "classify", "max_batch_tokens": max_batch_tokens},
        answer=partial(classify_rows, classifier, max_batch_tokens=max_batch_tokens),
    )
    return _run(job, source, target, form, "classifying texts")


@click.command("fill-mask", short_help="Fill in the masks of a file of texts.")
@_encoder_options
@click.option("--top-k", default=5, show_default=True, help="Most tokens for each mask.")
def fill_mask(
    model: Path,
    adapter: Path | None,
    quantize: str | None,
    source: Path,
    target: Path,
    form: str | None,
    max_batch_tokens: int,
    device: str | None,
    dtype: str | None,
    top_k: int,
) -> int:
    """Fill in the masks of a file of texts, which hold the model's mask token, such as [MASK].

    Each becomes {"index", "text", "masks"}: the text with the most probable tokens, and for each
    mask the most probable ones with their probabilities.

    \b
    Examples:
      echo "Paris is the [MASK] of France." | weldlm fill-mask --model bert -i - --format txt -o -
    """
    from weldlm.encoder_answers import encode_masked, fill_rows
    from weldlm.encoder_job import EncoderJob
    from weldlm.heads import MaskedLM

    _check_use(source, target, form, max_batch_tokens)
    language_model, tokenizer = _load((model, adapter, quantize), MaskedLM, device, dtype)
    if not 1 <= top_k <= language_model.config.vocab_size:
        raise ValueError(f"top_k is {top_k}; expected 1 to {language_model.config.vocab_size}")
    settings: dict[str, Any] = {"top_k": top_k, "max_batch_tokens": max_batch_tokens}
    job = EncoderJob(
        model=language_model,
        tokenizer=tokenizer,
        settings={"task": "fill-mask", **settings},
        answer=partial(fill_rows, language_model, tokenizer, **settings),
        encode=encode_masked,
    )
    return _run(job, source, target, form, "filling masks")


def _check_use(source: Path, target: Path, form: str | None, max_batch_tokens: int) -> None:
    from weldlm.encoder_job import check_text_files
    from weldlm.job_output import JobFiles

    if form is not None and source != _STANDARD:
        raise click.UsageError("--format is of stdin; a file's name says its format: leave it out")
    if max_batch_tokens < 1:
        raise ValueError(f"max_batch_tokens is {max_batch_tokens}; expected at least 1")
    if _STANDARD not in (source, target):
        check_text_files(JobFiles(source, target))


def _load(
    source: tuple[Path, Path | None, str | None],
    head: type[Any],
    device: str | None,
    dtype: str | None,
) -> "tuple[Any, Tokenizer]":
    """The model, from its path, that of an adapter and its format, and its tokenizer."""
    import torch

    from weldlm.tokenizer import Tokenizer

    path, adapter, quantize = source
    weights = getattr(torch, dtype) if dtype else None
    model = load_head(path, head, default_device(device), weights, adapter, quantize)
    return model, Tokenizer.from_pretrained(path)


def _run(
    job: "EncoderJob",
    source: Path,
    target: Path,
    form: str | None,
    label: str,
    finish: "Callable[[JobFiles], None] | None" = None,
) -> int:
    from weldlm.cli.terminal import StepBar
    from weldlm.encoder_job import run_encoder_job, stream_encoder_job
    from weldlm.job_output import JobFiles, name_output

    with as_file(source, form or "jsonl") as path:
        files = JobFiles(path, target)
        try:
            if target == _STANDARD:
                with open_stdout() as file:
                    counts = stream_encoder_job(job, path, file)
            else:
                with StepBar(label) as bar:
                    counts = run_encoder_job(
                        job, files, report=bar.update, finish=finish or name_output
                    )
        except KeyboardInterrupt:
            if files.partial.exists():
                click.echo(f"{files.partial} keeps the rows; the same command goes on", err=True)
            raise
    click.echo(f"{target}: {counts.num_completed} done, {counts.num_failed} failed", err=True)
    return EXIT_FAILED_ROWS if counts.num_failed else 0
