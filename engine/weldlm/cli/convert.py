"""`weldlm convert`: any model that weldlm reads to a Hugging Face folder."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weldlm.cli.terminal import StepBar

if TYPE_CHECKING:
    from weldlm.heads import Model
    from weldlm.tokenizer import Tokenizer

__all__ = ["convert"]

_FEWEST_TOKENS, _MOST_TOKENS = 32, 4_096
_MOST_DOCUMENTS, _MOST_CHARACTERS = 100, 50_000

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


class _Judge:
    """Measures the perplexity of each decoder that it is given."""

    def __init__(self, text: Path | None) -> None:
        self.perplexities: list[float] = []
        self.num_tokens = 0
        self._text = text

    def __call__(self, model: "Model", tokenizer: "Tokenizer | None") -> None:
        from itertools import islice

        from weldlm.data.corpus import read_documents, standard_library
        from weldlm.evaluate import bits_per_byte
        from weldlm.heads import CausalLM

        if not isinstance(model, CausalLM) or tokenizer is None:
            if self._text is not None:
                raise ValueError(
                    f"--text is {self._text}; expected none, since what a change costs is measured "
                    "of decoders with a tokenizer alone"
                )
            return
        documents = read_documents(self._text) if self._text else standard_library()
        text = "\n".join(islice((document.text for document in documents), _MOST_DOCUMENTS))
        ids = tokenizer.encode(text[:_MOST_CHARACTERS])[:_MOST_TOKENS]
        if len(ids) < _FEWEST_TOKENS:
            raise ValueError(
                f"{self._text} has {len(ids)} tokens; expected at least {_FEWEST_TOKENS}; give "
                "another --text"
            )
        self.num_tokens = len(ids) - 1
        # bits of a token, where that is the size of the text
        self.perplexities.append(2 ** bits_per_byte(model, [ids], self.num_tokens))


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
@click.option(
    "--quantize",
    type=click.Choice(["int8", "int4"]),
    help="Round the weights. weldlm alone reads the folder then.",
)
@click.option(
    "--num-kv-heads", type=int, help="Let query heads share heads of keys and values: a divisor."
)
@click.option("--window", type=int, help="Let each token see that many only, itself among them.")
@click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True),
    help="Measure on this text what the change costs.  [default: Python's standard library]",
)
def convert(
    source: Path,
    target: Path,
    dtype: str | None,
    max_shard_size: int,
    quantize: str | None,
    num_kv_heads: int | None,
    window: int | None,
    text: Path | None,
) -> None:
    """Write the model at SRC as a Hugging Face folder DST, with its tokenizer.

    SRC is a Hugging Face folder, a GGUF file or a folder with one, or a .bin model of llama2.c with
    its vocabulary beside it, or a checkpoint of a run, in parts or not. DST must not exist; it
    appears when it is complete.

    \b
    Examples:
      weldlm convert SmolLM2-135M-Instruct.Q4_1.gguf smollm2 --dtype bfloat16
      weldlm convert run/model smaller --dtype float16 --max-shard-size 500MB
      weldlm convert run/model smallest --quantize int4 --text held-out.txt
      weldlm convert run/model cheaper --num-kv-heads 2 --window 256

    With --quantize, --num-kv-heads or --window the perplexity of a decoder before and after is
    printed, on the first tokens of the text.
    """
    import torch

    from weldlm.convert import convert_model

    is_changed = any(option is not None for option in (quantize, num_kv_heads, window))
    if text is not None and not is_changed:
        raise click.UsageError(
            "--text goes with --quantize, --num-kv-heads and --window; leave it out"
        )
    judge = _Judge(text)
    with StepBar("converting weights, percent") as bar:
        has_tokenizer = convert_model(
            source,
            target,
            dtype=getattr(torch, dtype) if dtype else None,
            weight_format=quantize,  # type: ignore[arg-type]  # click has checked it
            num_kv_heads=num_kv_heads,
            window=window,
            judge=judge,
            max_shard_bytes=max_shard_size,
            report=bar.update,
        )
    if not has_tokenizer:
        click.echo(f"{source} has no tokenizer, and so has {target}", err=True)
    if judge.perplexities:
        before, after = judge.perplexities
        change = f"{before:.4g} -> {after:.4g} ({after / before - 1:+.2%})"
        click.echo(f"perplexity of {judge.num_tokens:,} tokens: {change}", err=True)
    elif is_changed:
        click.echo("what a change costs is measured of decoders with a tokenizer alone", err=True)
    click.echo(str(target))
