"""`weldlm predict`: what a fine-tuned model says of rows."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from weldlm.cli.model_folder import default_device
from weldlm.cli.options import device_option, given

if TYPE_CHECKING:
    from weldlm.data.row_files import Format
    from weldlm.job_output import JobFiles
    from weldlm.predict_job import Predictor

__all__ = ["predict"]

EXIT_FAILED_ROWS = 3

_TASKS = ("sentiment", "classify", "tokens", "qa", "regression", "seq2seq", "instruct")
_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_STANDARD = Path("-")


@click.command(short_help="Predict for a file of rows.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-i", "--input", "source", required=True, type=_FILE, help="Rows; - is stdin.")
@click.option(
    "-o", "--output", "target", required=True, type=_FILE, help="JSON lines; - is stdout."
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["tsv", "csv", "jsonl", "conll", "squad"]),
    help="Of stdin.  [default: jsonl]",
)
@click.option("--task", type=click.Choice(_TASKS), help="[default: what the model was made for]")
@click.option(
    "--text-column", "text_columns", multiple=True, help="Name, or number from 1; twice for a pair."
)
@click.option(
    "--too-long",
    type=click.Choice(["error", "truncate", "split"]),
    help="What becomes of rows that the model cannot take whole.  [default: as in its training]",
)
@click.option("--max-tokens", type=int, help="Most tokens to write, of seq2seq and instruct.")
@click.option("--batch-size", type=int, help="Rows at a time.  [default: 32]")
@device_option
def predict(
    model: Path,
    source: Path,
    target: Path,
    file_format: "Format | None",
    device: str | None,
    **options: Any,
) -> int:
    """Predict for a file of rows.

    MODEL is the folder of a fine-tuning, or of a model. Each row becomes a line with its index from
    0, the answer and its confidence, or with what is wrong with it.

    \b
    Examples:
      weldlm predict run -i reviews.tsv -o predictions.jsonl
      cat rows.jsonl | weldlm predict run -i - -o - | jq .label

    A file that was stopped before its end goes on with the same command. Exit code 3: all rows are
    done, but some are error rows.
    """
    from weldlm.job_output import JobFiles
    from weldlm.predict_job import check_rows, load_predictor

    if file_format is not None and source != _STANDARD:
        raise click.UsageError("--format is of stdin; a file's name says its format: leave it out")
    files = JobFiles(source, target)
    is_stream = _STANDARD in (source, target)
    if not is_stream:
        check_rows(files)
    predictor = load_predictor(model, device=default_device(device), **given(options))
    if is_stream:
        return _run_stream(predictor, source, target, file_format)
    return _run_job(predictor, files)


def _run_job(predictor: "Predictor", files: "JobFiles") -> int:
    from weldlm.cli.terminal import StepBar
    from weldlm.predict_job import run_predict_job

    try:
        with StepBar("predicting") as bar:
            counts = run_predict_job(predictor, files, report=bar.update)
    except KeyboardInterrupt:
        if files.partial.exists():
            click.echo(f"{files.partial} keeps the rows; the same command goes on", err=True)
        raise
    click.echo(
        f"{files.output}: {counts.num_completed} predicted, {counts.num_failed} failed", err=True
    )
    return EXIT_FAILED_ROWS if counts.num_failed else 0


def _run_stream(
    predictor: "Predictor", source: Path, target: Path, file_format: "Format | None"
) -> int:
    from weldlm.data.row_files import format_of
    from weldlm.data.source_lines import open_source
    from weldlm.predict_job import predict_stream

    if source == _STANDARD:
        rows = predict_stream(predictor, sys.stdin.buffer, "stdin", file_format or "jsonl")
        return _write_stream(rows, target)
    with open_source(source) as file:
        return _write_stream(
            predict_stream(predictor, file, str(source), format_of(source)), target
        )


def _write_stream(rows: Iterator[dict[str, Any]], target: Path) -> int:
    """Writes rows as they come; a file takes its name when all are there."""
    from weldlm.atomic_file import replace_file
    from weldlm.job_output import require_new

    if target == _STANDARD:
        return _write_rows(rows, sys.stdout)
    require_new(target)
    with replace_file(target) as draft, draft.open("w", encoding="utf-8") as file:
        return _write_rows(rows, file)


def _write_rows(rows: Iterator[dict[str, Any]], file: TextIO) -> int:
    num_rows = num_failed = 0
    for row in rows:
        num_rows, num_failed = num_rows + 1, num_failed + ("error" in row)
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
    if num_rows == 0:
        raise ValueError("the input is empty; expected at least one row")
    click.echo(f"{num_rows - num_failed} predicted, {num_failed} failed", err=True)
    return EXIT_FAILED_ROWS if num_failed else 0
