"""`weldlm convert`: any model that weldlm reads to a Hugging Face folder."""

import re
from pathlib import Path

import click

from weldlm.cli.terminal import StepBar

__all__ = ["convert"]

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _num_bytes(_: click.Context, __: click.Parameter, value: str) -> int:
    """A number with a unit, such as 5GB or 512MiB."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)", value)
    size = 0
    if found is not None and found[2].upper() in _UNITS:
        size = int(float(found[1]) * _UNITS[found[2].upper()])
    if size < 1:
        raise click.BadParameter(f"{value!r} is no size; expected a number and a unit, such as 5GB")
    return size


@click.command(short_help="Write any model as a Hugging Face folder.")
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Of the weights. Default: as stored; float32 where they are quantized.",
)
@click.option(
    "--max-shard-size",
    callback=_num_bytes,
    metavar="SIZE",
    default="5GB",
    show_default=True,
    help="A larger model becomes several files with an index.",
)
def convert(source: Path, target: Path, dtype: str | None, max_shard_size: int) -> None:
    """Write the model at SRC as a Hugging Face folder DST, with its tokenizer.

    SRC is a Hugging Face folder, a GGUF file or a folder with one, or a .bin model of llama2.c with
    its vocabulary beside it, or a checkpoint of a run, in parts or not. DST must not exist; it
    appears when it is complete.

    \b
    Examples:
      weldlm convert SmolLM2-135M-Instruct.Q4_1.gguf smollm2 --dtype bfloat16
      weldlm convert run/model smaller --dtype float16 --max-shard-size 500MB
    """
    import torch

    from weldlm.convert import convert_model

    with StepBar("converting weights, percent") as bar:
        has_tokenizer = convert_model(
            source,
            target,
            dtype=getattr(torch, dtype) if dtype else None,
            max_shard_bytes=max_shard_size,
            report=bar.update,
        )
    if not has_tokenizer:
        click.echo(f"{source} has no tokenizer, and so has {target}", err=True)
    click.echo(str(target))
