"""The Trainer trains like a plain PyTorch loop and reports what it does."""

import dataclasses
import json
import math
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_runs import RUN, metrics, tiny_shards, tiny_trainer
from weldlm.callbacks import Callback, EvalReport, StepReport, TrainResult
from weldlm.checkpoint import newest_valid
from weldlm.data import write_shards
from weldlm.data.plan import PackingPlan
from weldlm.heads import CausalLM
from weldlm.objectives import causal_lm_labels
from weldlm.optim import learning_rate
from weldlm.sealed_folder import lock_folder
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer

SHORT = RUN.changed(steps=6, warmup_steps=2, eval_every=None, save_every=None)


class Recorder(Callback):
    """Keeps every report."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.evals: list[EvalReport] = []
        self.ends: list[TrainResult | None] = []

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report)

    def on_eval(self, report: EvalReport) -> None:
        self.evals.append(report)

    def on_end(self, result: TrainResult | None) -> None:
        self.ends.append(result)


class Stop(Callback):
    """Asks the run to stop after its first step."""

    def on_step(self, _report: StepReport) -> None:
        signal.raise_signal(signal.SIGINT)


class Poison(Callback):
    """Makes a weight NaN after a step."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.model: CausalLM | None = None

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step and self.model is not None:
            with torch.no_grad():
                next(self.model.parameters())[0] = math.nan


def plain_loop(model: CausalLM, plan: PackingPlan, settings: TrainSettings) -> list[float]:
    """The same run in plain PyTorch; returns the losses."""
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],  # type: ignore[arg-type]
        betas=settings.betas,
        weight_decay=settings.weight_decay,
    )
    losses = []
    for step in range(settings.steps or 0):
        batch = plan.rows(step * settings.rows_per_step, settings.rows_per_step)
        loss = functional.cross_entropy(model.logits(batch), causal_lm_labels(batch))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("micro_batch_rows", [1, 2, 3])
def test_run_equals_a_plain_loop(tmp_path: Path, micro_batch_rows: int) -> None:
    settings = SHORT.changed(micro_batch_rows=micro_batch_rows)
    recorder = Recorder()
    trainer = tiny_trainer(tmp_path, settings=settings, callbacks=[recorder])
    plain = tiny_trainer(tmp_path).model
    plan = PackingPlan(tiny_shards(tmp_path / "data"), row_length=16, seed=0)

    trainer.fit()
    losses = plain_loop(plain, plan, settings)

    assert [report.loss for report in recorder.steps] == pytest.approx(losses, rel=1e-5)
    for ours, theirs in zip(trainer.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_last_validation_equals_plain_pytorch(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, settings=SHORT)
    shards = tiny_shards(tmp_path / "valid", seed=1)
    batch = PackingPlan(shards, row_length=16, seed=None).tokens(0, shards.num_tokens)

    valid = trainer.fit().valid
    with torch.no_grad():
        loss = functional.cross_entropy(trainer.model.logits(batch), causal_lm_labels(batch)).item()

    assert valid is not None
    assert valid.loss == pytest.approx(loss, rel=1e-6)
    assert valid.num_labels == shards.num_tokens - batch.num_sequences
    assert valid.bits_per_byte == pytest.approx(loss / math.log(2) * shards.num_tokens / 1000)


def test_validation_reads_as_many_rows_as_asked(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, settings=SHORT.changed(eval_rows=4))
    shards = tiny_shards(tmp_path / "valid", seed=1)
    batch = PackingPlan(shards, row_length=16, seed=None).rows(0, 4)

    valid = trainer.fit().valid

    assert valid is not None
    assert valid.num_labels == 4 * 16 - batch.num_sequences


def test_trained_weights_are_in_the_checkpoint(tmp_path: Path) -> None:
    from weldlm.weights import load_pretrained

    trainer = tiny_trainer(tmp_path, settings=SHORT)

    loaded = load_pretrained(trainer.fit().checkpoint)

    for saved, trained in zip(loaded.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(saved, trained)


def test_model_learns_its_corpus_by_heart(tmp_path: Path) -> None:
    documents = [torch.randperm(97)[:15].numpy() for _ in range(4)]
    data = write_shards(tmp_path / "data", documents, vocab_size=97)
    settings = TrainSettings(steps=120, rows_per_step=4, row_length=15, lr=2e-2, weight_decay=0.0)

    result = tiny_trainer(tmp_path, settings=settings, data=data).fit()

    # the first id of a document is never predicted, the others follow from it
    assert result.loss is not None
    assert result.loss < 0.05


def test_metrics_hold_steps_and_validations(tmp_path: Path) -> None:
    recorder = Recorder()

    tiny_trainer(tmp_path, callbacks=[recorder]).fit()

    lines = metrics(tmp_path / "out")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 15))
    assert [line["step"] for line in lines if "valid_loss" in line] == [4, 8, 12, 14]
    assert [line["loss"] for line in lines if "loss" in line] == [
        report.loss for report in recorder.steps
    ]


def test_speed_is_real_tokens_over_time(tmp_path: Path) -> None:
    recorder = Recorder()

    tiny_trainer(tmp_path, settings=SHORT, callbacks=[recorder]).fit()

    speeds = [report.tokens_per_second for report in recorder.steps]
    assert speeds == pytest.approx([48 / report.step_seconds for report in recorder.steps])
    assert [report.tokens for report in recorder.steps] == [48, 96, 144, 192, 240, 288]


def test_oldest_checkpoints_are_removed(tmp_path: Path) -> None:
    tiny_trainer(tmp_path).fit()

    names = sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*"))
    assert names == ["checkpoint-10", "checkpoint-14"]


@pytest.mark.parametrize(
    ("steps", "warmup_steps", "save_every"),
    [(6, 0, 1), (40, 4, 4), (3000, 100, 300)],
    ids=["short", "middle", "long"],
)
def test_what_is_left_open_follows_from_the_steps(
    tmp_path: Path, steps: int, warmup_steps: int, save_every: int
) -> None:
    settings = TrainSettings(steps=steps, rows_per_step=1)
    trainer = tiny_trainer(tmp_path, settings=settings, callbacks=[Stop()])

    trainer.fit()

    resolved = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert resolved["warmup_steps"] == warmup_steps
    assert resolved["save_every"] == save_every
    assert (resolved["row_length"], resolved["micro_batch_rows"]) == (16, 1)


def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    poison, recorder = Poison(step=7), Recorder()
    trainer = tiny_trainer(tmp_path, callbacks=[poison, recorder])
    poison.model = trainer.model

    with pytest.raises(FloatingPointError, match=r"step 8: the loss is nan .*/checkpoint-5$"):
        trainer.fit()

    search = newest_valid(tmp_path / "out")
    assert (search.newest, search.damaged) == (tmp_path / "out" / "checkpoint-5", ())
    assert recorder.ends == [None]


def test_out_is_used_by_one_program_at_a_time(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)

    with (
        lock_folder(tmp_path / "out"),
        pytest.raises(BlockingIOError, match="in use by another program"),
    ):
        trainer.fit()


def test_training_works_in_another_thread(tmp_path: Path) -> None:
    results: list[TrainResult] = []
    trainer = tiny_trainer(tmp_path, settings=SHORT)

    thread = threading.Thread(target=lambda: results.append(trainer.fit()))
    thread.start()
    thread.join()

    assert [result.step for result in results] == [6]


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    runs = [
        tiny_trainer(tmp_path / dtype, settings=dataclasses.replace(SHORT, dtype=dtype)).fit()
        for dtype in ("float32", "bfloat16")
    ]

    # bf16 has 8 bits: a loss of about 4.5 moves by less than 4.5 * 2**-8
    assert runs[0].loss != runs[1].loss
    assert runs[1].loss == pytest.approx(runs[0].loss, rel=2**-8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 96}, "has vocab_size 97; expected at most the model's, 96"),
        ({"context_length": 15}, "row_length is 16; expected at most the model's context_length"),
    ],
    ids=["vocab_size", "row_length"],
)
def test_model_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_trainer(tmp_path, **changes)


def test_half_precision_weights_are_refused(tmp_path: Path) -> None:
    model = CausalLM(tiny_config()).to(torch.bfloat16)

    with pytest.raises(ValueError, match=r"is torch.bfloat16; training keeps weights"):
        Trainer(model, tiny_shards(tmp_path / "data"), SHORT, tmp_path / "out")


def test_frozen_model_is_refused(tmp_path: Path) -> None:
    model = CausalLM(tiny_config()).requires_grad_(False)

    with pytest.raises(ValueError, match="no weight of the model requires a gradient"):
        Trainer(model, tiny_shards(tmp_path / "data"), SHORT, tmp_path / "out")


def test_corpus_of_single_tokens_is_refused(tmp_path: Path) -> None:
    data = write_shards(tmp_path / "data", [[1], [2], []], vocab_size=97)

    with pytest.raises(ValueError, match="has no document of two tokens"):
        tiny_trainer(tmp_path, data=data)


def test_model_beyond_all_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weldlm.memory.available_bytes", lambda _device: 2 << 30)
    settings = SHORT.changed(rows_per_step=10**7)

    with pytest.raises(ValueError, match=r"on 10,000,000 rows of 16 tokens .* takes at least"):
        tiny_trainer(tmp_path, settings=settings)

    assert not (tmp_path / "out").exists()


def test_validation_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    poison = Poison(step=6)
    trainer = tiny_trainer(tmp_path, settings=SHORT, callbacks=[poison])
    poison.model = trainer.model

    with pytest.raises(FloatingPointError, match="step 6: the validation loss is nan; expected"):
        trainer.fit()

    assert newest_valid(tmp_path / "out").newest != tmp_path / "out" / "checkpoint-6"


def test_other_minutes_than_those_of_the_run_are_said_to_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SHORT.changed(steps=2, minutes=1.0, warmup_steps=0)
    tiny_trainer(tmp_path, settings=settings).fit()

    tiny_trainer(tmp_path, settings=settings.changed(minutes=5.0)).fit(resume="auto")

    assert (
        "minutes is 5, but the run keeps the 2 steps that were measured for 1; for m" in caplog.text
    )


def test_the_same_minutes_need_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = SHORT.changed(steps=2, minutes=1.0, warmup_steps=0)
    tiny_trainer(tmp_path, settings=settings).fit()

    tiny_trainer(tmp_path, settings=settings).fit(resume="auto")

    assert "minutes" not in caplog.text


@pytest.mark.parametrize("part", ["data", "valid"])
def test_tokens_that_changed_are_found_before_a_run_goes_on(tmp_path: Path, part: str) -> None:
    tiny_trainer(tmp_path, callbacks=[Stop()]).fit()
    path = tmp_path / part / "tokens-00000.bin"
    path.write_bytes(b"\1\0" + path.read_bytes()[2:])

    with pytest.raises(
        ValueError, match=rf"{part}/tokens-00000.bin has SHA-256 .* it is damaged; r"
    ):
        tiny_trainer(tmp_path).fit(resume=True)
