"""`weldlm merge`: the outputs of shards to one file."""

from pathlib import Path

import click

__all__ = ["merge"]

EXIT_FAILED_ROWS = 3

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Join the outputs of shards.")
@click.argument("outputs", nargs=-1, required=True, type=_FILE)
@click.option("-o", "--output", "target", required=True, type=_FILE, help="JSON lines to write.")
def merge(outputs: tuple[Path, ...], target: Path) -> int:
    """Join the outputs of all shards of a job, in the order of the input.

    \b
    Examples:
      weldlm generate --model smollm2 -i in.jsonl -o out-0.jsonl --shard 0/2
      weldlm generate --model smollm2 -i in.jsonl -o out-1.jsonl --shard 1/2
      weldlm merge out-0.jsonl out-1.jsonl -o out.jsonl

    Each output needs the .job.json that its job left beside it. Exit code 3: some rows are error
    rows.
    """
    from weldlm.job_merge import merge_outputs

    counts = merge_outputs(outputs, target)
    click.echo(f"{target}: {counts.num_completed} completed, {counts.num_failed} failed", err=True)
    return EXIT_FAILED_ROWS if counts.num_failed else 0
