"""`weldlm evaluate`: how well a model does, with confidence intervals, alone or beside another."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import default_device
from weldlm.cli.options import device_option, dtype_option, require_folder

if TYPE_CHECKING:
    from weldlm.evaluate import Measure

__all__ = ["evaluate"]

_FILE = click.Path(path_type=Path, exists=True)
_MODEL = click.Path(path_type=Path)
_DRAWS_OF_ROWS = 300  # of labelled rows, whose figures take longer


@click.command(short_help="Measure how well a model does.")
@click.argument("model", type=_MODEL)
@click.option("--text", "texts", type=_FILE, multiple=True, help="Text to predict; several.")
@click.option("--choices", type=_FILE, help="Questions with choices, JSON lines.")
@click.option("--rows", type=_FILE, help="Labelled rows of the model's task, as of finetune.")
@click.option("--against", type=_MODEL, help="Another model, on the same; tests the difference.")
@click.option("--stride", type=int, help="Of text, in tokens.  [default: half the context]")
@click.option("--label-column", help="Of rows: name, or number from 1.")
@click.option(
    "--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True,
    help="What becomes of bad rows.",
)  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), help="Reliability diagram of rows, SVG.")
@click.option("--seed", default=0, show_default=True, help="Of the draws behind the intervals.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Figures as JSON.")
@device_option
@dtype_option
def evaluate(
    model: Path,
    texts: tuple[Path, ...],
    choices: Path | None,
    rows: Path | None,
    against: Path | None,
    plot: Path | None,
    seed: int,
    output: Path | None,
    **options: Any,
) -> None:
    """Measure how well MODEL does, with 95 % confidence intervals by bootstrap.

    --text gives perplexity and bits per byte; a .jsonl file holds a document in each line's "text".
    --choices takes {"prompt", "choices", "answer"} and gives accuracy by likelihood. --rows gives
    the figures of the task that the model was fine-tuned for, and of a classifier how far its
    confidences can be trusted.

    \b
    Examples:
      weldlm evaluate run/model --text book.txt
      weldlm evaluate run --rows reviews.tsv --plot reliability.svg
      weldlm evaluate run-a/model --against run-b/model --text held-out.jsonl
    """
    what = [
        kind for kind, value in (("text", texts), ("choices", choices), ("rows", rows)) if value
    ]
    if len(what) != 1:
        raise click.UsageError("give one of --text, --choices and --rows")
    if rows is None:
        given_in_vain = {"--plot": plot, "--label-column": options["label_column"]}
        given_in_vain["--on-error"] = options["on_error"] != "stop"
        for name, value in given_in_vain.items():
            if value:
                raise click.UsageError(f"{name} is of --rows; leave it out")
    if seed < 0:
        raise click.UsageError(f"--seed is {seed}; expected 0 or more")
    require_folder(output)
    common = {**options, "device": default_device(options["device"]), "seed": seed}
    if texts:
        figures = _on_text(model, against, texts, common)
    elif choices is not None:
        figures = _on_choices(model, against, choices, common)
    else:
        assert rows is not None
        figures = _on_rows(model, against, rows, plot, common)
    _show(figures, model, against)
    if output is not None:
        from weldlm.atomic_file import replace_text

        replace_text(output, json.dumps({"model": str(model), **figures}, indent=2) + "\n")


def _on_text(
    model: Path, against: Path | None, paths: tuple[Path, ...], options: dict[str, Any]
) -> dict[str, Any]:
    from weldlm.evaluate import read_documents, text_losses

    documents = read_documents(paths)
    losses = []
    for path in filter(None, (model, against)):
        found = _with_bar(
            path,
            text_losses,
            _scorer(path, options),
            documents,
            stride=options["stride"],
        )
        losses.append(found)
    measures: list[dict[str, Measure]] = [
        {"perplexity": found.perplexity, "bits_per_byte": found.bits_per_byte} for found in losses
    ]
    num_pieces = len(losses[0].nats)
    if num_pieces == 1:
        click.echo("so short a text has no interval; give more", err=True)
    figures = _figures(measures, num_pieces, options["seed"])
    counts = {"tokens": int(losses[0].num_tokens.sum()), "bytes": round(losses[0].num_bytes.sum())}
    return (
        {"data": [str(path) for path in paths], "num_documents": len(documents)} | counts | figures
    )


def _on_choices(
    model: Path, against: Path | None, path: Path, options: dict[str, Any]
) -> dict[str, Any]:
    from weldlm.evaluate import choice_scores, read_choices

    rows = read_choices(path)
    measures: list[dict[str, Measure]] = []
    for one in filter(None, (model, against)):
        hits = _with_bar(one, choice_scores, _scorer(one, options), rows)
        measures.append({name: partial(_mean, right) for name, right in hits.items()})
    return {"data": str(path), "num_rows": len(rows)} | _figures(
        measures, len(rows), options["seed"]
    )


def _on_rows(
    model: Path, against: Path | None, path: Path, plot: Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    from weldlm.evaluate import answer_labelled, calibrate, draw_reliability
    from weldlm.predict_job import load_predictor

    answers = []
    for one in filter(None, (model, against)):
        predictor = load_predictor(one, device=options["device"])
        click.echo(f"{one}: task {predictor.record.task}", err=True)
        found = _with_bar(
            one,
            answer_labelled,
            predictor,
            path,
            label_column=options["label_column"],
            on_error=options["on_error"],
        )
        answers.append(found)
    num_rows = len(answers[0].rows)
    if len(answers[-1].rows) != num_rows:
        raise ValueError(
            f"{model} answers {num_rows} rows and {against} {len(answers[-1].rows)}; expected the "
            "same rows; leave out what one of them refuses"
        )
    measures: list[dict[str, Measure]] = [
        {name: partial(found.figure, name) for name in found.measures()} for found in answers
    ]
    figures: dict[str, Any] = {"data": str(path), "num_rows": num_rows}
    figures |= {"num_skipped": answers[0].num_skipped}
    figures |= _figures(measures, num_rows, options["seed"], num_draws=_DRAWS_OF_ROWS)
    confidences = answers[0].confidences()
    if confidences is not None:
        calibration = calibrate(*confidences)
        figures["expected_calibration_error"] = calibration.expected_error
        if plot is not None:
            draw_reliability(calibration, plot)
    elif plot is not None:
        raise ValueError("plot is of classifiers, whose answers are labels; leave it out")
    return figures


def _scorer(path: Path, options: dict[str, Any]) -> Any:
    import torch

    from weldlm.scoring import load_scorer

    dtype = options["dtype"]
    return load_scorer(
        path, device=options["device"], dtype=None if dtype is None else getattr(torch, dtype)
    )


def _with_bar(path: Path, run: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    from weldlm.cli.terminal import StepBar

    with StepBar(str(path)) as bar:
        return run(*arguments, **options, report=bar.update)


def _mean(values: Any, indices: Any) -> float:
    return float(values[indices].mean())


def _figures(
    measures: "list[dict[str, Measure]]", num_rows: int, seed: int, *, num_draws: int = 1_000
) -> dict[str, Any]:
    """Intervals of each figure, and of the difference to the other model where there is one."""
    from weldlm.evaluate import difference, interval

    options: dict[str, Any] = {"seed": seed, "num_draws": num_draws}
    names = [name for name in measures[0] if all(name in one for one in measures)]
    parts = {
        key: {name: interval(one[name], num_rows, **options)._asdict() for name in names}
        for key, one in zip(("figures", "against"), measures, strict=False)
    }
    if len(measures) > 1:
        parts["difference"] = {
            name: difference(measures[0][name], measures[1][name], num_rows, **options)._asdict()
            for name in names
        }
    return parts


def _show(figures: dict[str, Any], model: Path, against: Path | None) -> None:
    titles = {"figures": model, "against": against, "difference": "difference, first less second"}
    for key, title in titles.items():
        if key not in figures:
            continue
        click.echo(f"{title}")
        for name, value in figures[key].items():
            line = (
                f"  {name:20} {value['value']:>10.4f}   [{value['low']:.4f}, {value['high']:.4f}]"
            )
            click.echo(line + (f"   p = {value['p_value']:.3f}" if "p_value" in value else ""))
    if "expected_calibration_error" in figures:
        click.echo(f"  {'calibration error':20} {figures['expected_calibration_error']:>10.4f}")
    if "num_documents" in figures:
        click.echo(f"{figures['tokens']:,} tokens of {figures['num_documents']:,} documents")
    else:
        click.echo(f"{figures['num_rows']:,} rows")
