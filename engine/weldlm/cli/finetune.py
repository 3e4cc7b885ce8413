"""`weldlm finetune`: from labelled rows and a pretrained model to a model for a task."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from weldlm.cli.model_folder import default_device, draw_curve, require_run_folder
from weldlm.cli.options import config_option, device_option, given
from weldlm.train_settings import Parallel, Schedule

if TYPE_CHECKING:
    from weldlm.adapters import LoraSettings

__all__ = ["finetune"]

_TASKS = ("sentiment", "classify", "tokens", "qa", "regression", "seq2seq", "instruct")
_PATH = click.Path(path_type=Path)


@click.command(short_help="Fine-tune a model for a task.")
@click.option("--task", required=True, type=click.Choice(_TASKS), help="What the rows are for.")
@click.option("--model", required=True, type=_PATH, help="Model folder or file to start from.")
@click.option(
    "--data",
    required=True,
    type=_PATH,
    help="Rows: .tsv, .csv, .jsonl, .conll, SQuAD .json, plain or .gz, or a folder of them.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to make."
)
@click.option("--seed", type=int, help="Of a new head and the order of rows.  [default: 0]")
@click.option("--held-out", type=float, help="Share of the rows to judge on.  [default: 0.1]")
@click.option("--held-out-data", type=_PATH, help="Rows to judge on, in place of --held-out.")
@click.option("--valid", type=float, help="Share that chooses the best epoch.  [default: 0.1]")
@click.option(
    "--text-column", "text_columns", multiple=True, help="Name, or number from 1; twice for a pair."
)
@click.option("--label-column", help="Name, or number from 1.")
@click.option(
    "--class-weights",
    type=click.Choice(["equal", "balanced"]),
    help="balanced: rare labels weigh as much as frequent ones.  [default: equal]",
)
@click.option(
    "--patience", type=int, help="Epochs without a better result that end the run.  [default: 2]"
)
@click.option(
    "--too-long",
    type=click.Choice(["error", "truncate", "split"]),
    help="What becomes of rows that the model cannot take whole.  [default: error; split for qa]",
)
@click.option(
    "--max-length", type=int, help="Most tokens of a sequence.  [default: the model's; 384 for qa]"
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    help="What becomes of bad rows.  [default: stop]",
)
@click.option("--epochs", type=float, help="Times that all rows are seen.  [default: the task's]")
@click.option("--steps", type=int, help="Optimizer steps, in place of --epochs.")
@click.option("--lr", type=float, help="Peak learning rate.  [default: the task's]")
@click.option("--rows-per-step", type=int, help="Rows of an optimizer step.  [default: the task's]")
@click.option("--micro-batch-rows", type=int, help="Rows in one forward.")
@click.option("--micro-batch-tokens", type=int, help="Most tokens in one forward.")
@click.option("--warmup-steps", type=int, help="Steps of linear rise of the learning rate.")
@click.option("--weight-decay", type=float, help="On weight matrices.  [default: 0.01]")
@click.option(
    "--schedule",
    type=click.Choice(get_args(Schedule)),
    help="Of the learning rate after its rise.  [default: linear]",
)
@click.option("--layer-decay", type=float, help="Rate of a layer by that of the one above.")
@click.option("--ema-decay", type=float, help="Of an average of the weights, which is kept.")
@click.option(
    "--checkpoint-activations",
    is_flag=True,
    default=None,
    help="Keep less for backward: compute each block twice.",
)
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), help="Of products.")
@click.option(
    "--parallel", type=click.Choice(get_args(Parallel)), help="Over ranks.  [default: auto]"
)
@click.option(
    "--lora-rank", type=int, help="Train an adapter (LoRA) of that rank, and nothing else."
)
@click.option("--lora-alpha", type=float, help="Its change is scaled by that / rank. [default: 16]")
@click.option("--lora-dropout", type=float, help="Share of inputs that it does not see.")
@click.option(
    "--lora-target",
    "lora_targets",
    multiple=True,
    help="all, attention, mlp, or layers by name; may be given again.  [default: attention]",
)
@click.option(
    "--lora-use-rslora", is_flag=True, default=None, help="Scale by alpha / sqrt(rank) instead."
)
@click.option("--resume", is_flag=True, help="Go on from the newest valid checkpoint in --out.")
@device_option
@config_option
def finetune(
    model: Path,
    data: Path,
    out: Path,
    held_out_data: Path | None,
    resume: bool,
    device: str | None,
    **options: Any,
) -> int:
    """Fine-tune a model for a task.

    The folder --out receives model/ with the weights of the best epoch, metrics.json with the
    figures on the rows held out, their predictions, a model card, finetune.toml with all options,
    and the checkpoints of the run. With --lora-rank adapter/ is a folder of PEFT, and model/ has
    the adapter merged into it. Ctrl-C saves a checkpoint; --resume goes on from it.

    \b
    Examples:
      weldlm finetune --task sentiment --model MiniLM/ --data reviews.tsv --out run
      weldlm finetune --task tokens --model MiniLM/ --data news.conll --out run
      weldlm finetune --task instruct --model smollm2/ --data chats.jsonl --out run --lora-rank 8
      weldlm finetune --config run/finetune.toml --out again --seed 1
      torchrun --nproc-per-node 2 -m weldlm finetune --config run/finetune.toml --out again
    """
    from weldlm.distributed import join_ranks
    from weldlm.finetune import TRAINING_FIELDS, FinetuneSettings
    from weldlm.finetune import finetune as run
    from weldlm.progress import progress_callback

    device, chosen = default_device(device), given(options)
    training = {name: chosen.pop(name) for name in TRAINING_FIELDS if name in chosen}
    settings = FinetuneSettings(lora=_take_lora(chosen), **chosen)
    with join_ranks(device, training.get("parallel", "auto")) as ranks:
        ranks.ask_first(lambda: require_run_folder(out, resume=resume))
        result = run(
            model,
            data,
            out,
            settings,
            heldout=held_out_data,
            training=training,
            device=device,
            callbacks=[progress_callback()],
            resume=resume,
        )
        if not ranks.is_first:
            return result.training.exit_code
    draw_curve(out)
    row: dict[str, Any] = {
        "step": result.training.step,
        "checkpoint": str(result.training.checkpoint),
    }
    if result.model is not None:
        row |= {"model": str(result.model), "heldout": result.metrics["heldout"]}
    click.echo(json.dumps(row))
    return result.training.exit_code


def _take_lora(options: dict[str, Any]) -> "LoraSettings | None":
    """Takes what is of an adapter out of `options`."""
    from weldlm.adapters import LoraSettings

    names = [name for name in options if name.startswith("lora_")]
    found = {name.removeprefix("lora_"): options.pop(name) for name in names}
    if not found.get("targets"):
        found.pop("targets", None)
    if not found:
        return None
    if "rank" not in found:
        flag = f"--lora-{next(iter(found)).replace('_', '-')}"
        raise click.UsageError(f"{flag} is of an adapter; give --lora-rank too, or leave it out")
    return LoraSettings(**found)
