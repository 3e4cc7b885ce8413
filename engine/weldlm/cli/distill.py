"""`weldlm distill`: a smaller model that learns from a larger one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import (
    default_device,
    describe_training,
    draw_curve,
    keep_model,
    require_run_folder,
)
from weldlm.cli.options import config_option, device_option, given

if TYPE_CHECKING:
    from weldlm.data.prepare import Corpus
    from weldlm.distill import DistillSettings
    from weldlm.heads import Model
    from weldlm.tokenizer import Tokenizer

__all__ = ["distill"]

_TASKS = ("sentiment", "classify", "tokens", "seq2seq", "instruct")
_PATH = click.Path(path_type=Path)
_OF_DISTILLATION = ("temperature", "hard_share", "hidden_weight", "attention_weight")
_OF_ROWS = ("seed", "held_out", "valid", "text_columns", "label_column", "on_error", "patience")
_OF_TRAINING = ("epochs", "steps", "minutes", "lr", "rows_per_step", "warmup_steps", "dtype")


@click.command(short_help="Make a smaller model that learns from a larger one.")
@click.option("--teacher", required=True, type=_PATH, help="Model folder, or that of a finetune.")
@click.option("--data", required=True, type=_PATH, help="Labelled rows of its task, or text.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to make."
)
@click.option(
    "--num-layers", type=int, help="Of the student, copied from the teacher.  [default: half]"
)
@click.option("--num-encoder-layers", type=int, help="Of an encoder-decoder.  [default: its share]")
@click.option("--student", type=_PATH, help="Model to start from, in place of --num-layers.")
@click.option("--task", type=click.Choice(_TASKS), help="[default: what the teacher was made for]")
@click.option("--temperature", type=float, help="Divides both models' logits.  [default: 2]")
@click.option("--hard-share", type=float, help="Of the loss, from the labels.  [default: 0.5]")
@click.option(
    "--hidden-weight", type=float, help="Of the states behind matched layers.  [default: 0]"
)
@click.option("--attention-weight", type=float, help="Of the last layers' attention.  [default: 0]")
@click.option(
    "--sequence-level", is_flag=True, help="seq2seq: learn the texts that the teacher writes."
)
@click.option("--hidden-share", type=float, help="Of text that encoders are asked for.")
@click.option("--seed", type=int, help="Of the order of rows and of what is hidden.  [default: 0]")
@click.option("--held-out", type=float, help="Share to judge both models on.  [default: 0.1]")
@click.option("--valid", type=float, help="Share of rows that chooses the best epoch.")
@click.option("--text-column", "text_columns", multiple=True, help="Of rows: name or number.")
@click.option("--label-column", help="Of rows: name or number.")
@click.option("--on-error", type=click.Choice(["stop", "skip"]), help="What becomes of bad rows.")
@click.option("--patience", type=int, help="Epochs without a better result that end the run.")
@click.option("--epochs", type=float, help="Times that all is seen.")
@click.option("--steps", type=int, help="Optimizer steps, in place of --epochs.")
@click.option("--minutes", type=float, help="Of text: time to train for.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--rows-per-step", type=int, help="Rows of an optimizer step.")
@click.option("--warmup-steps", type=int, help="Steps of linear rise of the learning rate.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), help="Of products.")
@click.option("--resume", is_flag=True, help="Go on from the newest valid checkpoint in --out.")
@device_option
@config_option
def distill(
    teacher: Path,
    data: Path,
    out: Path,
    num_layers: int | None,
    num_encoder_layers: int | None,
    student: Path | None,
    task: Any,
    sequence_level: bool,
    hidden_share: float | None,
    resume: bool,
    device: str | None,
    **options: Any,
) -> int:
    """Make a smaller model that learns from a larger one.

    A teacher that was fine-tuned for a task teaches on labelled rows, a language model on text.
    The student starts from every other layer of the teacher unless told otherwise, and learns its
    distributions beside the labels (Hinton et al. 2015); --hidden-weight adds the states, as
    DistilBERT does, --attention-weight the attention, as MiniLM does. --out receives model/ and the
    size, speed and quality of both.

    \b
    Examples:
      weldlm distill --teacher run --data reviews.tsv --out small
      weldlm distill --teacher bert/ --data corpus.txt --out small --hidden-weight 1 --epochs 1
      weldlm distill --teacher t5-run --data rows.tsv --out small --sequence-level
    """
    from weldlm.distill import DistillSettings
    from weldlm.tasks import read_task_record

    if student is not None and (num_layers or num_encoder_layers):
        raise click.UsageError("--student has layers of its own; leave --num-layers out")
    require_run_folder(out, resume=resume)
    chosen, device = given(options), default_device(device)
    settings = DistillSettings(
        **{name: chosen.pop(name) for name in _OF_DISTILLATION if name in chosen}
    )
    if not (teacher / "config.json").is_file() and (teacher / "model" / "config.json").is_file():
        teacher = teacher / "model"
    record = read_task_record(teacher) if teacher.is_dir() else None
    task = task or (None if record is None else record.task)
    layers = (num_layers, num_encoder_layers, student)
    if task is None:
        if sequence_level:
            raise click.UsageError("--sequence-level is of the task seq2seq; leave it out")
        return _on_text(teacher, data, out, layers, settings, hidden_share, chosen, device, resume)
    if hidden_share is not None or "minutes" in chosen:
        raise click.UsageError("--hidden-share and --minutes are of text; leave them out")
    return _on_rows(
        teacher, data, out, layers, settings, task, sequence_level, chosen, device, resume
    )


def _on_rows(
    teacher: Path,
    data: Path,
    out: Path,
    layers: tuple[int | None, int | None, Path | None],
    settings: "DistillSettings",
    task: Any,
    sequence_level: bool,
    options: dict[str, Any],
    device: str,
    resume: bool,
) -> int:
    from weldlm.finetune import FinetuneSettings, Teaching, finetune
    from weldlm.heads import HEADS
    from weldlm.progress import progress_callback
    from weldlm.tasks import TASKS
    from weldlm.tokenizer import Tokenizer
    from weldlm.weights import load_pretrained

    head = HEADS[TASKS[task].head]
    model = load_pretrained(teacher, head, device=device, dtype="float32").eval()
    start = layers[2]
    if start is None:
        start = out / "student"
        if not resume:
            small = _shrunken(model, *layers[:2])
            out.mkdir(parents=True, exist_ok=True)
            keep_model(small, Tokenizer.from_pretrained(teacher), start)
    result = finetune(
        start,
        data,
        out,
        FinetuneSettings(task=task, **_part(options, _OF_ROWS)),
        training=_part(options, _OF_TRAINING),
        device=device,
        callbacks=[progress_callback()],
        resume=resume,
        teaching=Teaching(
            teacher=model, path=teacher, settings=settings, sequence_level=sequence_level
        ),
    )
    draw_curve(out)
    row: dict[str, Any] = {"step": result.training.step, "model": str(result.model)}
    if result.model is None:
        row["model"] = None
    else:
        found = result.metrics["distillation"]
        row |= {name: found[f"{name}_figures"] for name in ("teacher", "student")}
    click.echo(json.dumps(row))
    return result.training.exit_code


def _on_text(
    teacher: Path,
    data: Path,
    out: Path,
    layers: tuple[int | None, int | None, Path | None],
    settings: "DistillSettings",
    hidden_share: float | None,
    options: dict[str, Any],
    device: str,
    resume: bool,
) -> int:
    from weldlm.atomic_file import replace_text
    from weldlm.distill import distill_text
    from weldlm.heads import HEADS, language_head
    from weldlm.pretraining import PretrainSettings, build_objective
    from weldlm.progress import progress_callback
    from weldlm.tokenizer import Tokenizer
    from weldlm.train_settings import TrainSettings
    from weldlm.weights import load_config, load_pretrained

    head = HEADS[language_head(load_config(teacher))]
    tokenizer = Tokenizer.from_pretrained(teacher)
    model = load_pretrained(teacher, head, device=device, dtype="float32").eval()
    if layers[2] is None:
        small: Any = _shrunken(model, *layers[:2])
    else:
        small = load_pretrained(layers[2], head, device=device, dtype="float32")
    training = TrainSettings(**_part(options, (*_OF_TRAINING, "seed")))
    corpus = _prepare(data, out, tokenizer, options.get("held_out", 0.02), model.config.is_decoder)
    hidden = PretrainSettings(**given({"hidden_share": hidden_share}))
    result = distill_text(
        small,
        model,
        corpus,
        build_objective(small.config, tokenizer, hidden, seed=training.seed),
        training,
        settings,
        out,
        callbacks=[progress_callback()],
        resume=resume,
    )
    draw_curve(out)
    row: dict[str, Any] = {"step": result.training.step, "model": None}
    if not result.training.is_interrupted:
        heldout = result.figures.get("student", {})
        about = describe_training("weldlm distill", data, corpus, training, heldout)
        keep_model(small, tokenizer, out / "model", about)
        row |= {"model": str(out / "model"), **result.figures}
        replace_text(out / "metrics.json", json.dumps(row, indent=2) + "\n")
    click.echo(json.dumps(row))
    return result.training.exit_code


def _prepare(
    data: Path, out: Path, tokenizer: "Tokenizer", held_out: float, has_frame: bool
) -> "Corpus":
    from weldlm.data.corpus import read_documents, standard_library
    from weldlm.data.prepare import prepare_corpus
    from weldlm.tokenizer.fingerprint import fingerprint

    return prepare_corpus(
        standard_library() if str(data) == "stdlib" else list(read_documents(data)),
        out,
        held_out=held_out,
        tokenizer=tokenizer,
        vocabulary=f"with fingerprint {fingerprint(tokenizer)[:12]}",
        has_frame=has_frame,
    )


def _shrunken(teacher: "Model", num_layers: int | None, num_encoder_layers: int | None) -> Any:
    from weldlm.distill import shrink

    num_layers = max(1, teacher.config.num_layers // 2) if num_layers is None else num_layers
    return shrink(teacher, num_layers, num_encoder_layers)


def _part(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names if options.get(name) not in (None, ())}
