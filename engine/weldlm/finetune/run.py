"""finetune: from labelled rows and a pretrained model to a model folder that knows its figures."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from weldlm.adapters import adapter_names, add_lora, merge_lora, save_adapter, with_head
from weldlm.atomic_file import replace_text
from weldlm.callbacks import Callback, TrainResult
from weldlm.checkpoint import load_trained, load_weights
from weldlm.config import HeadKind
from weldlm.distributed import Ranks, join_ranks
from weldlm.finetune.model_card import write_model_card
from weldlm.finetune.prepared_data import EncodedSplit, encode_data, read_data
from weldlm.finetune.settings import LORA_FIELDS, TRAINING_FIELDS, FinetuneSettings
from weldlm.finetune.teaching import Teaching
from weldlm.heads import HEADS, Model, Regressor
from weldlm.sealed_folder import replace_folder
from weldlm.tasks import TASK_FILE, TASKS, Prediction, RegressionTask
from weldlm.token_loss import mean_loss
from weldlm.tokenizer import Tokenizer
from weldlm.toml_text import to_toml
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.training_data import ExampleBatches
from weldlm.weights import load_pretrained, open_model, save_pretrained

__all__ = ["METRICS_FILE", "FinetuneResult", "finetune"]

CONFIG_FILE = "finetune.toml"
METRICS_FILE = "metrics.json"
MODEL_CARD = "README.md"
PREDICTIONS_FILE = "predictions.jsonl"

_logger = logging.getLogger(__name__)

_WIDTH = 768  # for which the tasks state their learning rates
_LORA_LR = 10.0  # times that, of an adapter
_WRITERS = ("causal_lm", "seq2seq_lm")  # kinds of heads that take no adapter and stay as they are


@dataclass(frozen=True, slots=True)
class _Files:
    """What a fine-tuning is made from, and where it goes."""

    model: str
    data: str
    heldout: str | None
    out: Path


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """How a fine-tuning ended."""

    training: TrainResult
    model: Path | None  # the folder of the best epoch; None where the run was interrupted
    metrics: dict[str, Any]  # as in metrics.json


def finetune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    settings: FinetuneSettings,
    *,
    heldout: str | Path | None = None,
    training: Mapping[str, Any] | None = None,
    device: str = "cpu",
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
    teaching: Teaching | None = None,
) -> FinetuneResult:
    """Fine-tunes a model, keeps its best epoch and judges that on rows it has not seen.

    `out` receives model/ (weights, tokenizer, task, model card and figures), metrics.json,
    predictions.jsonl of the rows held out, README.md, and the run's checkpoints.

    Args:
        model: a folder or file of a pretrained model.
        data: a file of rows, or a folder of files.
        out: folder of the run.
        settings: the task, and how rows are chosen and encoded.
        heldout: a file of rows to judge on, in place of a share of `data`.
        training: fields of `TrainSettings` that differ from the task's own.
        device: that trains.
        callbacks: take the reports of the training.
        resume: go on from the newest checkpoint in `out`, where there is one.
        teaching: a fine-tuned model that this one learns from beside the labels.

    Raises:
        FileNotFoundError: there is no such model or file.
        FileExistsError: `out` holds a run, and `resume` is not set.
        ValueError: rows, model and settings do not fit together.
    """
    files = _Files(str(model), str(data), None if heldout is None else str(heldout), Path(out))
    training = training or {}
    with join_ranks(device, training.get("parallel", "auto")) as ranks:
        return _finetune(
            files, settings, training, device, callbacks, ranks, resume=resume, teaching=teaching
        )


def _finetune(
    files: _Files,
    settings: FinetuneSettings,
    training: Mapping[str, Any],
    device: str,
    callbacks: Sequence[Callback],
    ranks: Ranks,
    *,
    resume: bool,
    teaching: Teaching | None,
) -> FinetuneResult:
    """On each rank; the first one writes and judges."""
    out = files.out
    heldout = None if files.heldout is None else Path(files.heldout)
    split = read_data(Path(files.data), settings, heldout)
    tokenizer = Tokenizer.from_pretrained(files.model)
    torch.manual_seed(settings.seed)
    body = _load(files.model, split.record.kind.head, split.labels, device)
    if settings.lora is not None:
        add_lora(body, replace(settings.lora, trains_head=body.kind not in _WRITERS))
    encoded = encode_data(split, tokenizer, body.config, settings)
    learner = body
    if teaching is not None:
        encoded = teaching.taught(encoded)
        learner = teaching.learner(body)
    trainer = _trainer(learner, encoded, settings, out, training, callbacks)

    def begin() -> None:
        for bad in encoded.bad:
            _logger.warning("left out %s", bad)
        out.mkdir(parents=True, exist_ok=True)
        tokenizer.save(out / "tokenizer.json")  # goes into every checkpoint
        replace_text(out / CONFIG_FILE, _config(files, settings, trainer.settings))

    ranks.ask_first(begin)
    result = trainer.fit(resume="auto" if resume else False)
    if result.is_interrupted:
        return FinetuneResult(result, None, {})

    def end() -> dict[str, Any]:
        best, told = _best_epoch(result, encoded, body, device)
        predictions = told.task.predict(best, told.heldout)
        figures = _figures(best, told, predictions, trainer.settings, result)
        figures |= {
            "model": files.model,
            "data": files.data,
            "heldout_data": files.heldout,
            "settings": asdict(settings),
            "training": asdict(trainer.settings),
        }
        if teaching is not None:
            figures["distillation"] = teaching.figures(best, told)
        _write(out, best, tokenizer, told, figures, predictions)
        return figures

    return FinetuneResult(result, out / "model", ranks.ask_first(end))


def _best_epoch(
    result: TrainResult, encoded: EncodedSplit, body: Model, device: str
) -> tuple[Model, EncodedSplit]:
    """The model that is kept, with the task as it is asked of it; adapters are merged into it."""
    checkpoint = result.best_checkpoint or result.checkpoint
    if adapter_names(body):
        best = body
        load_trained(checkpoint, best)
        merge_lora(best)
    else:
        best = load_weights(checkpoint, device=device)
    if not isinstance(encoded.task, RegressionTask):
        return best, encoded
    encoded.task.unscale(cast(Regressor, best))
    return best, replace(encoded, task=RegressionTask(encoded.task.encoding))


def _load(path: str | Path, kind: HeadKind, labels: tuple[str, ...], device: str) -> Model:
    """The pretrained model with a head for the labels: its own where they are the same."""
    stored = open_model(path)
    if kind in _WRITERS or (stored.head, stored.config.labels) == (kind, labels):
        return load_pretrained(path, HEADS[kind], device=device, dtype="float32")
    return with_head(path, kind, labels=labels or None)[0].float().to(device)


def _trainer(
    model: Model,
    encoded: EncodedSplit,
    settings: FinetuneSettings,
    out: Path,
    training: Mapping[str, Any],
    callbacks: Sequence[Callback],
) -> Trainer:
    kind, task = TASKS[settings.task], encoded.task
    lr = kind.lr * _WIDTH / model.config.hidden_size
    lr *= 1.0 if settings.lora is None else _LORA_LR
    chosen = {"lr": lr, **kind.settings, **training}
    if any(training.get(name) is not None for name in ("steps", "minutes")):
        chosen.pop("epochs", None)
    num_examples = sum(len(row.pieces) for row in encoded.train)
    steps_per_epoch = max(1, -(-num_examples // chosen["rows_per_step"]))
    defaults = {
        "seed": settings.seed,
        "eval_every": steps_per_epoch,
        "save_every": steps_per_epoch,
        "keep_checkpoints": 1,
        "best_metric": kind.metric,
        "best_is": "lowest" if kind.metric == "loss" else "highest",
        "patience": settings.patience,
    }
    return Trainer(
        model,
        task.examples(encoded.train),
        TrainSettings(**{**defaults, **chosen}),
        out,
        valid=task.examples(encoded.valid),
        judge=None if kind.metric == "loss" else _judge(encoded),
        callbacks=callbacks,
    )


def _config(files: _Files, settings: FinetuneSettings, training: TrainSettings) -> str:
    """The options of the command that makes such a run again, but its --out."""
    lora = {} if settings.lora is None else asdict(settings.lora)
    return to_toml(
        {
            "model": files.model,
            "data": files.data,
            "held_out_data": files.heldout,
            **{name: value for name, value in asdict(settings).items() if name != "lora"},
            **{f"lora_{name}": lora[name] for name in LORA_FIELDS if lora},
            **{name: getattr(training, name) for name in TRAINING_FIELDS},
        }
    )


def _judge(encoded: EncodedSplit) -> Callable[[Model], dict[str, float]]:
    task, rows = encoded.task, encoded.valid
    return lambda model: task.judge(rows, task.predict(model, rows))


def _figures(
    model: Model,
    encoded: EncodedSplit,
    predictions: Sequence[Prediction],
    training: TrainSettings,
    result: TrainResult,
) -> dict[str, Any]:
    examples = ExampleBatches(encoded.task.examples(encoded.heldout), training, None)
    found = mean_loss(
        model, examples.validation_batches(), dtype="float32", is_stopped=lambda: False
    )
    assert found is not None
    judged = encoded.task.judge(encoded.heldout, predictions)
    return {
        "task": encoded.record.task,
        "heldout": {**judged, "loss": found[0]},
        "num_rows": {
            "train": len(encoded.train),
            "valid": len(encoded.valid),
            "heldout": len(encoded.heldout),
            "skipped": len(encoded.bad),
        },
        "steps": result.step,
        "best_checkpoint": None if result.best_checkpoint is None else result.best_checkpoint.name,
        "skipped": [str(bad) for bad in encoded.bad],
        "labels": list(getattr(encoded.task, "labels", ())),
    }


def _write(
    out: Path,
    model: Model,
    tokenizer: Tokenizer,
    encoded: EncodedSplit,
    figures: dict[str, Any],
    predictions: Sequence[Prediction],
) -> None:
    """The model folder first: figures in `out` say that all of it is there."""
    metrics = json.dumps(figures, ensure_ascii=False, indent=2) + "\n"
    card = write_model_card(figures, encoded.record)
    rows = [
        json.dumps({"place": row.row.place, **prediction}, ensure_ascii=False) + "\n"
        for row, prediction in zip(encoded.heldout, predictions, strict=True)
    ]
    if adapter_names(model):
        with replace_folder(out / "adapter") as draft:
            save_adapter(model, draft, base=figures["model"])
            (draft / MODEL_CARD).write_text(card, encoding="utf-8")
    with replace_folder(out / "model") as draft:
        save_pretrained(model, draft)
        tokenizer.save_pretrained(draft)
        (draft / TASK_FILE).write_text(encoded.record.to_json(), encoding="utf-8")
        (draft / MODEL_CARD).write_text(card, encoding="utf-8")
        (draft / METRICS_FILE).write_text(metrics, encoding="utf-8")
    replace_text(out / PREDICTIONS_FILE, "".join(rows))
    replace_text(out / MODEL_CARD, card)
    replace_text(out / METRICS_FILE, metrics)
