"""`weldlm bias`: whether a model prefers stereotypes."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weldlm.cli.model_folder import default_device
from weldlm.cli.options import device_option, dtype_option, require_folder

if TYPE_CHECKING:
    from weldlm.bias import BiasReport

__all__ = ["bias"]


@click.command(short_help="Measure whether a model prefers stereotypes.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Set of sentences.  [default: a small one that is built in]",
)
@click.option("--card", is_flag=True, help="Write the figures into the model's README.md too.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Figures as JSON.")
@device_option
@dtype_option
def bias(
    model: Path,
    data: Path | None,
    card: bool,
    output: Path | None,
    device: str | None,
    dtype: str | None,
) -> None:
    """Measure whether MODEL finds sentences with a stereotype more probable than those without.

    --data takes CrowS-Pairs (.csv), StereoSet (.json), WinoBias (pro_stereotyped_*), pairs of one's
    own (.jsonl of {"more", "less", "category"}) or templates (.toml). MODEL may be a decoder, an
    encoder with a masked-LM head or an encoder-decoder.

    \b
    Examples:
      weldlm bias run/model --data crows_pairs_anonymized.csv --card
      weldlm bias smollm2
    """
    import torch

    from weldlm.atomic_file import replace_text
    from weldlm.bias import add_to_card, measure_bias, read_bias_set
    from weldlm.cli.terminal import StepBar
    from weldlm.scoring import load_scorer

    if card and not model.is_dir():
        raise click.UsageError(f"--card is of a model's folder, and {model} is none; leave it out")
    require_folder(output)
    sentences = read_bias_set(data)
    scorer = load_scorer(
        model,
        device=default_device(device),
        dtype=None if dtype is None else getattr(torch, dtype),
    )
    with StepBar("scoring sentences") as bar:
        report = measure_bias(scorer, sentences, report=bar.update)
    _show(report)
    if output is not None:
        figures = {"model": str(model), **dataclasses.asdict(report)}
        figures["shares"] = {name: share._asdict() for name, share in report.shares.items()}
        replace_text(output, json.dumps(figures, indent=2) + "\n")
    if card:
        click.echo(f"{add_to_card(model, report)}: the section on bias is new", err=True)


def _show(report: "BiasReport") -> None:
    click.echo(
        f"{report.name}: share in which the stereotype is more probable (0.5: no preference)"
    )
    width = max(len(name) for name in report.shares)
    for name, share in report.shares.items():
        click.echo(
            f"  {name:{width}} {share.num:>6,}   {share.value:.3f}   "
            f"[{share.low:.3f}, {share.high:.3f}]   margin {share.margin:+.3f} nats"
        )
    if report.language_score is not None:
        click.echo(f"  language model score {report.language_score:.3f}, ICAT {report.icat:.3f}")
    click.echo(f"\n{report.caveat}")
