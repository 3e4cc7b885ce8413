"""`weldlm backends`: which implementation each operation takes here, and why."""

import json

import click

from weldlm.cli.model_folder import default_device
from weldlm.cli.options import device_option

__all__ = ["backends"]


@click.command(short_help="Show which kernels run here, and why.")
@device_option
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Default: bfloat16 on a GPU, float32 on a CPU.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def backends(device: str | None, dtype: str | None, as_json: bool) -> None:
    """Show the backend that each operation takes on this machine, and the reason.

    A backend is the plain PyTorch reference, compiled CPU kernels, or Triton GPU kernels.
    """
    import torch

    from weldlm_kernels.backend import explain

    kind = torch.device(default_device(device)).type
    dtype = dtype or ("bfloat16" if kind == "cuda" else "float32")
    choices = explain(kind, getattr(torch, dtype))
    if as_json:
        for choice in choices:
            row = {"op": choice.op, "backend": choice.backend, "reason": choice.reason}
            click.echo(json.dumps(row))
        return
    click.echo(f"{kind}, {dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for choice in choices:
        click.echo(f"{choice.op:22} {choice.backend:10} {choice.reason}")
