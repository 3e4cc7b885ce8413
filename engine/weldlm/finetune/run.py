"""finetune: from labelled rows and a pretrained model to a model folder that knows its figures."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from weldlm.adapters import with_head
from weldlm.atomic_file import replace_text
from weldlm.callbacks import Callback, TrainResult
from weldlm.config import HeadKind
from weldlm.finetune.model_card import write_model_card
from weldlm.finetune.prepared_data import EncodedSplit, encode_data, read_data
from weldlm.finetune.settings import FinetuneSettings
from weldlm.heads import HEADS, Model, Regressor
from weldlm.sealed_folder import replace_folder
from weldlm.tasks import TASK_FILE, TASKS, Prediction, RegressionTask
from weldlm.token_loss import mean_loss
from weldlm.tokenizer import Tokenizer
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.training_data import ExampleBatches
from weldlm.weights import load_pretrained, open_model, save_pretrained

__all__ = ["METRICS_FILE", "FinetuneResult", "finetune"]

METRICS_FILE = "metrics.json"
MODEL_CARD = "README.md"
PREDICTIONS_FILE = "predictions.jsonl"

_logger = logging.getLogger(__name__)

_WIDTH = 768  # for which the tasks state their learning rates


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

    Raises:
        FileNotFoundError: there is no such model or file.
        FileExistsError: `out` holds a run, and `resume` is not set.
        ValueError: rows, model and settings do not fit together.
    """
    out = Path(out)
    split = read_data(Path(data), settings, None if heldout is None else Path(heldout))
    tokenizer = Tokenizer.from_pretrained(model)
    torch.manual_seed(settings.seed)
    body = _load(model, split.record.kind.head, split.labels, device)
    encoded = encode_data(split, tokenizer, body.config, settings)
    for bad in encoded.bad:
        _logger.warning("left out %s", bad)
    trainer = _trainer(body, encoded, settings, out, training or {}, callbacks)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out / "tokenizer.json")  # goes into every checkpoint
    result = trainer.fit(resume="auto" if resume else False)
    if result.is_interrupted:
        return FinetuneResult(result, None, {})
    best, encoded = _best_epoch(result, encoded, HEADS[body.kind], device)
    predictions = encoded.task.predict(best, encoded.heldout)
    figures = _figures(best, encoded, predictions, trainer.settings, result)
    figures |= {
        "model": str(model),
        "data": str(data),
        "heldout_data": None if heldout is None else str(heldout),
        "settings": asdict(settings),
        "training": asdict(trainer.settings),
    }
    _write(out, best, tokenizer, encoded, figures, predictions)
    return FinetuneResult(result, out / "model", figures)


def _best_epoch(
    result: TrainResult, encoded: EncodedSplit, head: type[Model], device: str
) -> tuple[Model, EncodedSplit]:
    """The model that is kept, with the task as it is asked of it."""
    best = load_pretrained(result.best_checkpoint or result.checkpoint, head, device=device)
    if not isinstance(encoded.task, RegressionTask):
        return best, encoded
    encoded.task.unscale(cast(Regressor, best))
    return best, replace(encoded, task=RegressionTask(encoded.task.encoding))


def _load(path: str | Path, kind: HeadKind, labels: tuple[str, ...], device: str) -> Model:
    """The pretrained model with a head for the labels: its own where they are the same."""
    stored = open_model(path)
    if kind in ("causal_lm", "seq2seq_lm") or (stored.head, stored.config.labels) == (kind, labels):
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
    with replace_folder(out / "model") as draft:
        save_pretrained(model, draft)
        tokenizer.save_pretrained(draft)
        (draft / TASK_FILE).write_text(encoded.record.to_json(), encoding="utf-8")
        (draft / MODEL_CARD).write_text(card, encoding="utf-8")
        (draft / METRICS_FILE).write_text(metrics, encoding="utf-8")
    replace_text(out / PREDICTIONS_FILE, "".join(rows))
    replace_text(out / MODEL_CARD, card)
    replace_text(out / METRICS_FILE, metrics)
