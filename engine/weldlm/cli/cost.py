"""`weldlm cost`: what a model takes, and how long and how much energy a number of tokens."""

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import default_device
from weldlm.cli.options import device_option

if TYPE_CHECKING:
    from weldlm.config import HeadKind, ModelConfig
    from weldlm.cost import ModelCost, Rates

__all__ = ["cost"]

_GIB = 1 << 30


@click.command(short_help="Show what a model costs, in memory, time and energy.")
@click.argument("model")
@click.option("--tokens", type=float, default=1e9, show_default=True, help="To train on, or write.")
@click.option("--length", type=int, help="Tokens of a sequence.  [default: the context, <= 512]")
@click.option("--rows", type=int, default=8, show_default=True, help="Sequences of a step.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of training's products.",
)
@click.option(
    "--watts", type=float, help="Power of this machine.  [default: what it tells, if it does]"
)
@click.option("--measure/--no-measure", default=True, help="Train and generate for some seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@device_option
def cost(
    model: str,
    tokens: float,
    length: int | None,
    rows: int,
    dtype: Any,
    watts: float | None,
    measure: bool,
    as_json: bool,
    device: str | None,
) -> None:
    """Show parameters, arithmetic, memory, time and energy of MODEL, a preset or a model's path.

    Time follows from what this machine does in a few seconds with drawn weights of that shape,
    energy from its power.

    \b
    Examples:
      weldlm cost gpt2
      weldlm cost run/model --tokens 5e9 --watts 65
    """
    from weldlm.cost import measure_rates, model_cost
    from weldlm.precision import resolve_dtype

    for name, value in (("--tokens", tokens), ("--rows", rows), ("--watts", watts)):
        if value is not None and not 0 < value < math.inf:
            raise click.UsageError(f"{name} is {value:g}; expected a finite number above 0")
    import torch

    (config, head), device = _find(model), default_device(device)
    length = min(config.context_length, 512) if length is None else length
    found = model_cost(config, length=length, rows=rows, head=head)
    if measure and length < 2:
        raise click.UsageError("--length is 1; expected at least 2 to measure; give --no-measure")
    products = resolve_dtype(dtype, torch.device(device))
    rates = None
    if measure:
        click.echo("measuring for some seconds ...", err=True)
        rates = measure_rates(config, length=length, rows=rows, device=device, dtype=products)
    estimate = _estimate(rates, tokens, watts)
    if as_json:
        measured = None if rates is None else dataclasses.asdict(rates)
        rest = {"length": length, "rows": rows, "rates": measured, "estimate": estimate}
        click.echo(json.dumps({"model": model, **dataclasses.asdict(found), **rest}))
        return
    for line in (*_lines(found, length, rows), *_estimate_lines(rates, estimate, tokens, products)):
        click.echo(line)


def _find(model: str) -> "tuple[ModelConfig, HeadKind | None]":
    """The configuration, and the head of a model that is there."""
    from weldlm.config import PRESETS, preset
    from weldlm.weights import open_model, path_of_model

    if model in PRESETS:
        return preset(model), None
    stored = open_model(path_of_model(Path(model)))
    return stored.config, stored.head


def _estimate(
    rates: "Rates | None", tokens: float, watts: float | None
) -> dict[str, dict[str, float]]:
    """Hours, and kWh where the power is known, of training on and of writing that many tokens."""
    if rates is None:
        return {}
    power = rates.watts if watts is None else watts
    found: dict[str, dict[str, float]] = {}
    for name, rate in (("training", rates.training), ("generation", rates.generation)):
        if rate is not None:
            hours = tokens / rate / 3600
            found[name] = {"hours": hours} | (
                {} if power is None else {"kwh": hours * power / 1000}
            )
    return found


def _lines(found: "ModelCost", length: int, rows: int) -> list[str]:
    shares = [f"{name} {count:,}" for name, count in found.parameters.items() if count]
    memory = [f"{name} {_gib(count)}" for name, count in found.weight_bytes.items()]
    training = [f"{name} {_gib(count)}" for name, count in found.training_bytes.items()]
    cache = [f"{name} {count:,} B" for name, count in found.cache_bytes_per_token.items()]
    return [
        f"{'parameters':14} {found.num_parameters:,} ({', '.join(shares)})",
        f"{'a token':14} {found.flops_forward / 1e9:.3f} GFLOP forward, "
        f"{found.flops_training / 1e9:.3f} in training, of {length} in a sequence",
        f"{'weights':14} {', '.join(memory)}",
        f"{'training':14} {', '.join(training)} at least, with {rows} rows of {length} at a time",
        *([f"{'cache':14} {', '.join(cache)} a token"] if cache else []),
    ]


def _estimate_lines(
    rates: "Rates | None", estimate: dict[str, dict[str, float]], tokens: float, dtype: str
) -> list[str]:
    if rates is None:
        return []
    lines = []
    for name, rate in (("training", rates.training), ("generation", rates.generation)):
        if rate is None:
            continue
        part = estimate[name]
        energy = f", {part['kwh']:,.3g} kWh" if "kwh" in part else ", power unknown: give --watts"
        how = dtype if name == "training" else "one sequence"
        lines.append(
            f"{name:14} {rate:,.0f} tokens/s here ({how}): {_duration(part['hours'])} for "
            f"{tokens:,.0f}{energy}"
        )
    return lines


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.3g} GiB"


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 48 else f"{hours / 24:,.1f} days"
