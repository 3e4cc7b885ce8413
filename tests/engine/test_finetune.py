"""Fine-tuning of tiny models: each task is learned, judged on unseen rows, and can be asked."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny_tasks import tiny_folder, tiny_rows
from weldlm.callbacks import Callback, StepReport
from weldlm.finetune import FinetuneResult, FinetuneSettings, finetune
from weldlm.heads import SequenceClassifier
from weldlm.job_output import JobFiles
from weldlm.predict_job import load_predictor, run_predict_job
from weldlm.tasks import TaskName
from weldlm.weights import load_pretrained

TRAINING = {"lr": 1e-2, "epochs": 4, "rows_per_step": 8, "dtype": "float32"}


class StopAfter(Callback):
    """Asks the run to stop as Ctrl-C does, or breaks it off as a crash does: nothing is saved."""

    def __init__(self, step: int, *, is_crash: bool = False) -> None:
        self.step = step
        self.is_crash = is_crash

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step and self.is_crash:
            raise RuntimeError("crash")
        if report.step == self.step:
            signal.raise_signal(signal.SIGINT)


def run(folder: Path, task: TaskName, *, name: str = "out", **options: Any) -> FinetuneResult:
    chosen = {"training": {**TRAINING, **options.pop("training", {})}, **options}
    settings = FinetuneSettings(task=task, **chosen.pop("settings", {}))
    model, rows = folder / "base", folder / "data"
    if not model.exists():
        tiny_folder(model, task)
    return finetune(model, tiny_rows(rows, task), folder / name, settings, **chosen)


@pytest.mark.parametrize(
    ("task", "epochs", "measure", "least"),
    [
        ("sentiment", 3, "accuracy", 0.95),
        ("tokens", 3, "f1", 0.95),
        pytest.param("regression", 8, "pearson", 0.9, marks=pytest.mark.slow),
        pytest.param("qa", 12, "exact_match", 0.8, marks=pytest.mark.slow),
        pytest.param("seq2seq", 8, "exact_match", 0.8, marks=pytest.mark.slow),
        pytest.param("instruct", 8, "exact_match", 0.8, marks=pytest.mark.slow),
    ],
)
def test_a_task_is_learned_and_its_model_predicts_the_same(
    tmp_path: Path, task: TaskName, epochs: int, measure: str, least: float
) -> None:
    result = run(tmp_path, task, training={"epochs": epochs})

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["heldout"][measure] >= least
    assert metrics["heldout"] == result.metrics["heldout"]
    predictor = load_predictor(tmp_path / "out")
    files = JobFiles(next((tmp_path / "data").iterdir()), tmp_path / "all.jsonl")
    assert run_predict_job(predictor, files).num_failed == 0
    _assert_as_held_out(tmp_path)


def _assert_as_held_out(folder: Path) -> None:
    """The predictions of the rows held out stand among those of all rows."""
    fields = ("label", "value", "labels", "answer", "text")
    said = {_said(line, fields) for line in (folder / "all.jsonl").read_text().splitlines()}
    heldout = (folder / "out" / "predictions.jsonl").read_text().splitlines()
    assert heldout
    assert {_said(line, fields) for line in heldout} <= said


def _said(line: str, fields: tuple[str, ...]) -> str:
    row = json.loads(line)
    return json.dumps([row.get("words"), row.get("id"), *(row[f] for f in fields if f in row)])


def test_sentiment_of_zero_and_one_has_words(tmp_path: Path) -> None:
    run(tmp_path, "sentiment", training={"epochs": 1})

    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    length = {"training": {"epochs": 2}}
    whole = run(tmp_path, "tokens", name="whole", **length)
    with pytest.raises(RuntimeError, match="crash"):  # in the second epoch
        run(tmp_path, "tokens", callbacks=[StopAfter(15, is_crash=True)], **length)
    stopped = run(tmp_path, "tokens", callbacks=[StopAfter(17)], resume=True, **length)

    resumed = run(tmp_path, "tokens", resume=True, **length)

    assert (stopped.training.exit_code, stopped.model) == (130, None)
    assert resumed.metrics["heldout"] == whole.metrics["heldout"]
    assert resumed.metrics["best_checkpoint"] == whole.metrics["best_checkpoint"]
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("out", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_bad_rows_are_left_out_and_named_where_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_rows(tmp_path / "data", "classify")
    long = json.dumps({"text": "the " * 99, "label": 1})
    path.write_text(path.read_text() + "{\n" + long + "\n")
    tiny_folder(tmp_path / "base", "classify")
    settings = FinetuneSettings(task="classify", on_error="skip")
    short = {**TRAINING, "epochs": 1}

    result = finetune(tmp_path / "base", path, tmp_path / "out", settings, training=short)

    assert result.metrics["num_rows"]["skipped"] == 2
    assert f"left out {path}:121: the line is not valid JSON" in caplog.text
    assert f"left out {path}:122: the row has 101 tokens; expected at most 64" in caplog.text


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    models = [
        run(tmp_path, "classify", name=name, settings={"seed": seed}, training={"epochs": 1}).model
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]

    first, second, third = (_classifier(model) for model in models)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def _classifier(folder: Path | None) -> torch.Tensor:
    assert folder is not None
    return load_pretrained(folder, SequenceClassifier).classifier.weight.detach()


@pytest.mark.slow
def test_the_best_epoch_is_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    result = run(
        tmp_path, "classify", settings={"patience": 1}, training={"epochs": 30, "lr": 2e-2}
    )

    assert result.training.is_out_of_patience
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").open()]
    accuracies = {
        line["step"]: line["valid_accuracy"] for line in lines if "valid_accuracy" in line
    }
    best = int(result.metrics["best_checkpoint"].rpartition("-")[2])
    assert accuracies[best] == max(accuracies.values())
    assert max(accuracies) < result.training.num_steps


def test_the_model_folder_describes_itself(tmp_path: Path) -> None:
    run(tmp_path, "classify", training={"epochs": 1})

    folder = tmp_path / "out" / "model"
    card = (folder / "README.md").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"| accuracy | {metrics['heldout']['accuracy']:.4f} |" in card
    assert metrics["num_rows"] == {"train": 96, "valid": 12, "heldout": 12, "skipped": 0}
    assert json.loads((folder / "task.json").read_text())["columns"] == {
        "texts": ["text"],
        "label": "label",
    }


@pytest.mark.slow
def test_transformers_reads_the_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run(tmp_path, "sentiment", training={"epochs": 1})

    pipe = transformers.pipeline("text-classification", str(tmp_path / "out" / "model"))
    (theirs,) = pipe("the film is fine .")

    (tmp_path / "rows.txt").write_text("the film is fine .\n")
    files = JobFiles(tmp_path / "rows.txt", tmp_path / "rows.jsonl")
    run_predict_job(load_predictor(tmp_path / "out"), files)
    ours = json.loads((tmp_path / "rows.jsonl").read_text())
    assert ours["label"] == theirs["label"]
    assert ours["confidence"] == pytest.approx(theirs["score"], abs=1e-5)


def test_rows_held_out_in_a_file_of_their_own(tmp_path: Path) -> None:
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text('{"text": "the film is dull", "label": 0}\n' * 5)

    metrics = run(tmp_path, "classify", heldout=heldout, training={"epochs": 1}).metrics

    assert metrics["num_rows"]["heldout"] == 5
    assert metrics["num_rows"]["train"] == 108


def test_a_label_that_was_not_learned_is_named(tmp_path: Path) -> None:
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text('{"text": "the film", "label": 0}\n{"text": "the", "label": "new"}\n')

    with pytest.raises(ValueError, match=r"heldout.jsonl:2: the label 'new' is none that was lea"):
        run(tmp_path, "classify", heldout=heldout)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"held_out": 0.6}, "held_out is 0.6; expected a share above 0 and below 0.5"),
        ({"class_weights": "balanced"}, "class_weights is balanced for the task tokens"),
        ({"max_length": 99}, "max_length is 99; expected at least 1 and at most the model's"),
        ({"max_length": 5}, "expected at most 5; shorten it, or give too_long truncate or split"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        run(tmp_path, "tokens", settings=settings)

    assert problem in str(caught.value)
