"""The Trainer trains with every objective, stops where validation asks and resumes bit for bit."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.engine.objective_cases import CASES, tiny_examples
from tests.engine.tiny_runs import contents, metrics
from weldlm.callbacks import Callback, StepReport, TrainResult
from weldlm.checkpoint import newest_valid
from weldlm.heads import Model
from weldlm.objectives import MaskedLMObjective
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.training_data import ExampleBatches, TokenRows

SETTINGS = TrainSettings(
    steps=8, rows_per_step=4, row_length=14, lr=1e-2, dtype="float32", warmup_steps=0, save_every=3
)


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_step(self, report: StepReport) -> None:
        self.values.append(report.loss)


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            signal.raise_signal(signal.SIGTERM)


def trainer(name: str, folder: Path, settings: TrainSettings = SETTINGS, **options: Any) -> Trainer:
    case = CASES[name]
    data = case.data(folder)
    options = {"valid": data, "objective": case.objective, **options}
    return Trainer(case.model(), data, settings, folder / "out", **options)


@pytest.fixture
def _same_step_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is the first one."""
    for data in (TokenRows, ExampleBatches):
        original = data.micro_batches
        monkeypatch.setattr(
            data, "micro_batches", lambda self, _step, *ranks, take=original: take(self, 0, *ranks)
        )


@pytest.mark.usefixtures("_same_step_again")
@pytest.mark.parametrize("name", CASES)
def test_one_batch_is_learned_by_heart(name: str, tmp_path: Path) -> None:
    losses = Losses()
    settings = SETTINGS.changed(steps=180, rows_per_step=2, lr=3e-2, save_every=180)

    trainer(name, tmp_path, settings, callbacks=[losses], valid=None).fit()

    assert losses.values[-1] < 0.1 * losses.values[0]


@pytest.mark.parametrize(
    "name", ["masked-lm", "span-corruption", "answer-spans", "sequence-labels"]
)
def test_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole = trainer(name, tmp_path / "whole").fit()
    stopped = trainer(name, tmp_path / "cut", callbacks=[StopAfter(5)]).fit()
    assert stopped.exit_code == 143

    resumed = trainer(name, tmp_path / "cut").fit(resume=True)

    assert contents(resumed.checkpoint) == contents(whole.checkpoint)
    assert metrics(tmp_path / "cut" / "out") == metrics(tmp_path / "whole" / "out")


def test_epochs_become_steps(tmp_path: Path) -> None:
    settings = SETTINGS.changed(steps=None, epochs=2.0)

    result = trainer("sequence-labels", tmp_path, settings).fit()

    assert result.num_steps == 7  # 26 examples in fours


def scripted(*values: float) -> Any:
    left = iter(values)
    return lambda _model: {"accuracy": next(left)}


def test_run_ends_when_patience_does_and_keeps_the_best(tmp_path: Path) -> None:
    settings = SETTINGS.changed(
        eval_every=1, best_metric="accuracy", best_is="highest", patience=3, keep_checkpoints=1
    )
    judge = scripted(0.1, 0.5, 0.4, 0.5, 0.3, 0.9)

    result = trainer("sequence-labels", tmp_path, settings, judge=judge).fit()

    assert result.is_out_of_patience
    assert result.step == 5
    assert result.exit_code == 0
    assert result.best_checkpoint == tmp_path / "out" / "checkpoint-2"
    kept = sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-5"]


def test_resumed_run_has_the_patience_that_was_left(tmp_path: Path) -> None:
    settings = SETTINGS.changed(eval_every=1, best_metric="accuracy", best_is="highest", patience=3)
    run = trainer(
        "sequence-labels", tmp_path, settings, judge=scripted(0.5), callbacks=[StopAfter(2)]
    )
    run.fit()

    result = trainer("sequence-labels", tmp_path, settings, judge=scripted(0.4, 0.3, 0.2, 0.9)).fit(
        resume=True
    )

    assert result.step == 4
    assert result.best_checkpoint == tmp_path / "out" / "checkpoint-1"


def test_unknown_best_metric_is_named(tmp_path: Path) -> None:
    settings = SETTINGS.changed(eval_every=1, best_metric="f1")

    with pytest.raises(ValueError, match=r"best_metric is 'f1', but a validation gives loss;"):
        trainer("sequence-labels", tmp_path, settings).fit()


def fit(name: str, folder: Path, **options: Any) -> TrainResult:
    return trainer(name, folder, **options).fit()


def test_model_with_another_head_is_refused(tmp_path: Path) -> None:
    model: Model = CASES["token-labels"].model()

    with pytest.raises(ValueError, match="head is of the kind token_classification, but Labelled"):
        Trainer(model, tiny_examples("sequences"), SETTINGS, tmp_path / "out")


def test_objective_beside_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="objective is MaskedLMObjective, but the data is label"):
        trainer("sequence-labels", tmp_path, objective=CASES["masked-lm"].objective)


def test_row_that_the_objective_makes_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="context_length less the 2 tokens that the objective"):
        trainer("masked-lm", tmp_path, SETTINGS.changed(row_length=63))


def test_resume_with_another_objective_is_refused(tmp_path: Path) -> None:
    trainer("masked-lm", tmp_path, callbacks=[StopAfter(3)]).fit()
    other = MaskedLMObjective(vocab_size=97, mask_id=4, special_ids=[0, 4], frame_ids=(2, 3))

    with pytest.raises(ValueError, match="trained with the objective MaskedLMObjective"):
        trainer("masked-lm", tmp_path, objective=other).fit(resume=True)


def test_best_checkpoint_is_whole(tmp_path: Path) -> None:
    settings = SETTINGS.changed(eval_every=2, best_metric="loss")

    result = trainer("regression", tmp_path, settings).fit()

    assert result.best_checkpoint is not None
    assert newest_valid(tmp_path / "out").newest == result.checkpoint
