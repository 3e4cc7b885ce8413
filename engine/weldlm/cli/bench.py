"""`weldlm bench`: how fast this machine is with a model."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.generation_options import MEMORY, limits_of
from weldlm.cli.model_folder import default_device, quantize_option
from weldlm.cli.option_groups import GroupedCommand, add_options, option_of
from weldlm.cli.options import device_option, dtype_option

if TYPE_CHECKING:
    from weldlm.bench import BenchReport, Workload
    from weldlm.heads import CausalLM

__all__ = ["bench"]

_WORK = "What is generated"
_PARTS = ("mixed", "pp", "tg")
_SUFFIXES = (".json", ".csv", ".md")
# of a quarter of the length, where no GPU takes the whole protocol
_SMALL: dict[str, Any] = {"num_prompts": 16, "lengths": (25, 256), "preset": "llama-160m"}
_WHOLE: dict[str, Any] = {"num_prompts": 256, "lengths": (100, 1_024), "preset": "qwen3-0.6b"}


@click.group()
def bench() -> None:
    """Measure how fast this machine is."""


@bench.command(cls=GroupedCommand, short_help="Time generation, alone or beside transformers.")
@click.option("--model", type=click.Path(path_type=Path), help="Model folder or file, or smollm2.")
@click.option("--preset", help="Random weights instead.  [default: llama-160m; GPU: qwen3-0.6b]")
@click.option("--peer", type=click.Choice(["transformers"]), help="Takes turns with weldlm.")
@click.option("-r", "--repetitions", default=3, show_default=True, help="Timed rounds.")
@click.option(
    "-o",
    "--output",
    "targets",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, .json, .csv or .md; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@quantize_option
@device_option
@dtype_option
@option_of(_WORK, "--only", multiple=True, type=click.Choice(_PARTS), help="May be repeated.")
@option_of(_WORK, "--num-prompts", type=int, help="Of mixed rows.  [default: 16; GPU: 256]")
@option_of(
    _WORK,
    "--lengths",
    type=(int, int),
    help="Least and most tokens, in and out.  [default: 25 256; GPU: 100 1024]",
)
@option_of(_WORK, "--temperature", default=0.6, show_default=True, help="Of mixed rows.")
@option_of(_WORK, "--pp", multiple=True, type=int, default=(512,), help="Prompt.  [default: 512]")
@option_of(_WORK, "--tg", multiple=True, type=int, default=(128,), help="Tokens.  [default: 128]")
@option_of("Memory and speed", "--batch-size", type=int, help="[default: all prompts, at most 256]")
@add_options(*MEMORY)
def generate(
    model: Path | None,
    preset: str | None,
    peer: str | None,
    repetitions: int,
    targets: tuple[Path, ...],
    as_json: bool,
    quantize: str | None,
    device: str | None,
    dtype: str | None,
    **options: Any,
) -> None:
    """Time generation with random prompts, which any model takes.

    Mixed rows are the protocol of nano-vllm: 256 prompts of 100 to 1024 tokens, and as many new
    ones; fewer and shorter ones on a CPU. pp and tg are those of llama-bench: reading one prompt,
    and tokens of one sequence. The share of the roofline compares with the time that reading
    weights, keys and values takes at the speed of memory that is measured in the same run.

    \b
    Examples:
      weldlm bench generate
      weldlm bench generate --model smollm2 --peer transformers -o generation.md
      weldlm bench generate --preset gpt2 --only tg --tg 64 --tg 256 --json
    """
    import torch

    from weldlm.bench import BenchReport, bench_generation
    from weldlm.cli.terminal import StepBar

    _check_use(model, preset, peer, targets, repetitions)
    device = default_device(device)
    defaults = _WHOLE if device.startswith("cuda") else _SMALL
    preset = None if model is not None else preset or defaults["preset"]
    weights = torch.float32 if quantize and device == "cpu" else None
    loaded = _load(model, preset, device, getattr(torch, dtype) if dtype else weights)
    num_parameters = sum(weight.numel() for weight in loaded.parameters())
    workloads = _workloads(loaded.config.vocab_size, options, defaults)
    most = max(len(workload.prompts) for workload in workloads)
    limits = limits_of(options, **{"batch_size": min(most, 256)})
    with StepBar("timing generation") as bar:
        found = bench_generation(
            loaded,
            workloads,
            limits=limits,
            repetitions=repetitions,
            has_peer=peer is not None,
            weight_format=quantize,  # type: ignore[arg-type]  # click has checked it
            report=bar.update,
        )
    report = BenchReport(
        command=shlex.join(["weldlm", *sys.argv[1:]]),
        model=str(model or preset),
        num_parameters=num_parameters,
        dtype=quantize or str(next(loaded.parameters()).dtype).removeprefix("torch."),
        device=device,
        batch_size=limits.batch_size,
        bench=found,
    )
    _write(report, targets, as_json=as_json)


def _check_use(
    model: Path | None,
    preset: str | None,
    peer: str | None,
    targets: tuple[Path, ...],
    repetitions: int,
) -> None:
    from importlib.util import find_spec

    if model is not None and preset is not None:
        raise click.UsageError("give --model or --preset, not both")
    if peer is not None and find_spec(peer) is None:
        raise click.UsageError(f"{peer} is not installed; run: pip install {peer}")
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}; expected at least 1")
    for target in targets:
        if target.suffix not in _SUFFIXES:
            expected = ", ".join(_SUFFIXES)
            raise ValueError(f"{target} is no output; expected a name in {expected}")


def _load(path: Path | None, preset_name: str | None, device: str, dtype: Any) -> "CausalLM":
    import torch

    from weldlm.config import preset
    from weldlm.heads import CausalLM
    from weldlm.weights import load_config, load_pretrained, path_of_model

    if path is None:
        assert preset_name is not None
        config = preset(preset_name)
    else:
        path = path_of_model(path)
        config = load_config(path)
    if not config.is_decoder:
        raise ValueError(f"{path or preset_name} is no decoder; expected one, such as gpt2")
    if path is not None:
        return load_pretrained(path, CausalLM, device=device, dtype=dtype).eval()
    torch.manual_seed(0)
    return CausalLM(config).to(device, dtype).eval()


def _workloads(
    vocab_size: int, options: dict[str, Any], defaults: dict[str, Any]
) -> "list[Workload]":
    from weldlm.bench import decode_workload, mixed_workload, prefill_workload

    parts = options["only"] or _PARTS
    num_prompts = options["num_prompts"] or defaults["num_prompts"]
    lengths = options["lengths"] or defaults["lengths"]
    if not 1 <= lengths[0] <= lengths[1]:
        raise ValueError(f"lengths is {lengths}; expected two numbers, the least and the most")
    for name in ("pp", "tg"):
        if min(options[name], default=1) < 1:
            raise ValueError(f"{name} is {min(options[name])}; expected at least 1")
    if num_prompts < 1:
        raise ValueError(f"num_prompts is {num_prompts}; expected at least 1")
    mixed = mixed_workload(
        num_prompts, lengths, vocab_size=vocab_size, temperature=options["temperature"]
    )
    return [
        *([mixed] if "mixed" in parts else []),
        *(prefill_workload(n, vocab_size=vocab_size) for n in options["pp"] if "pp" in parts),
        *(decode_workload(n, vocab_size=vocab_size) for n in options["tg"] if "tg" in parts),
    ]


def _write(report: "BenchReport", targets: tuple[Path, ...], *, as_json: bool) -> None:
    from weldlm.atomic_file import replace_text
    from weldlm.bench import as_csv, as_markdown
    from weldlm.bench import as_json as to_json

    forms: dict[str, Callable[[BenchReport], str]] = {
        ".json": to_json,
        ".csv": as_csv,
        ".md": as_markdown,
    }
    for target in targets:
        replace_text(target, forms[target.suffix](report))
    if as_json:
        click.echo(to_json(report), nl=False)
    else:
        _print_table(report)


def _print_table(report: "BenchReport") -> None:
    from rich.console import Console
    from rich.table import Table

    from weldlm.bench.report import COLUMNS

    head = report.head
    table = Table(
        title=f"{report.model}, {report.dtype} on {head['machine']}; memory is read at "
        f"{head['read_gigabytes_per_second']} GB/s"
    )
    for place, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if place < 2 else "right", no_wrap=place >= 2)
    for cells in report.cells:
        table.add_row(*cells)
    Console().print(table)
