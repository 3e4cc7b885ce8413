"""`weldlm info`: what a model is and what it takes, before it is loaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from weldlm.config import ModelConfig
    from weldlm.model_info import ModelInfo

__all__ = ["info"]

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@click.command(short_help="Show what a model is and what it takes.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(path: Path, as_json: bool) -> None:
    """Show architecture, parameters, memory, context and cache of the model at PATH.

    PATH is a Hugging Face folder, a GGUF file or a folder with one, or a .bin model of llama2.c.
    Only headers are read, so that the answer does not depend on the size of the model.

    \b
    Examples:
      weldlm info run/model
      weldlm info SmolLM2-135M-Instruct.Q4_1.gguf --json
    """
    from weldlm.model_info import read_model_info

    found = read_model_info(path)
    if as_json:
        click.echo(json.dumps(_as_json(found)))
        return
    for line in _lines(found):
        click.echo(line)


def _as_json(found: "ModelInfo") -> dict[str, Any]:
    config = found.config
    return {
        "path": str(found.path),
        "format": found.format,
        "family": config.family,
        "head": found.head,
        "num_parameters": found.num_parameters,
        "stored_as": found.stored_as,
        "num_bytes": found.num_bytes,
        "context_length": config.context_length,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "num_encoder_layers": config.num_encoder_layers,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "cache_bytes_per_token": found.cache_bytes_per_token,
    }


def _lines(found: "ModelInfo") -> list[str]:
    config = found.config
    total = sum(found.stored_as.values())
    shares = [f"{kind} {count / total:.1%}" for kind, count in found.stored_as.items()]
    lines = [
        f"{'path':13} {found.path}",
        f"{'format':13} {found.format}",
        f"{'model':13} {config.family}, {found.head}",
        f"{'architecture':13} {_architecture(config)}",
        f"{'vocabulary':13} {config.vocab_size:,} ids",
        f"{'context':13} {config.context_length:,} tokens",
        f"{'parameters':13} {found.num_parameters:,}",
        f"{'stored as':13} {', '.join(shares)}",
        "",
        f"{'memory':13} {'weights':>12}",
    ]
    if found.cache_bytes_per_token:
        what = "cache, a token" if not config.num_encoder_layers else "cache, a token of each side"
        lines[-1] += f"   {what}   {'at full context'}"
    for dtype, num_bytes in found.num_bytes.items():
        line = f"{dtype:13} {_size(num_bytes):>12}"
        if found.cache_bytes_per_token:
            cache = found.cache_bytes_per_token[dtype]
            width = len(lines[9]) - len(f"{'memory':13} {'weights':>12}") - 21
            line += f"   {_size(cache):>{width}}   {_size(cache * config.context_length):>15}"
        lines.append(line)
    return lines


def _architecture(config: "ModelConfig") -> str:
    layers = f"{config.num_layers} layers"
    if config.num_encoder_layers:
        layers = f"{config.num_encoder_layers} encoder and {config.num_layers} decoder layers"
    heads = f"{config.num_heads} heads of {config.head_dim}"
    if config.num_kv_heads != config.num_heads:
        heads += f" ({config.num_kv_heads} for keys and values)"
    gate = "gated " if config.is_gated else ""
    parts = [
        layers,
        f"width {config.hidden_size:,}",
        heads,
        f"{gate}MLP of {config.intermediate_size:,} ({config.activation})",
        f"{config.norm} ({config.norm_place})",
        f"{config.positions} positions",
    ]
    if config.window is not None:
        parts.append(f"window of {config.window:,}")
    return ", ".join(parts)


def _size(num_bytes: int) -> str:
    size, unit = float(num_bytes), 0
    while size >= 1_024 and unit + 1 < len(_UNITS):
        size, unit = size / 1_024, unit + 1
    return f"{size:,.1f} {_UNITS[unit]}" if unit else f"{num_bytes} bytes"
