"""Runs of the Trainer with every optimizer and what belongs to it."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.tiny_runs import RUN, metrics, tiny_trainer
from weldlm.callbacks import Callback, EvalReport, StepReport
from weldlm.checkpoint import read_state
from weldlm.ema import Ema
from weldlm.heads import CausalLM, Model
from weldlm.loss_scale import LossScale
from weldlm.optim import learning_rate, lr_factors
from weldlm.train_settings import OptimizerName, TrainSettings
from weldlm.weights import load_pretrained

SETTINGS = RUN.changed(steps=12, eval_every=None, save_every=12, warmup_steps=2)
LR: dict[OptimizerName, float] = {"adamw": 0.01, "muon": 0.01, "adafactor": 0.1}
OVERFLOWING = LossScale(2.0**23)

# Losses of runs whose weights are in fp64. A run lowers the loss by a tenth, so an error in its
# updates shows as a tenth of it: 100 roundings in fp32, for Muon one of its matrices in bf16.
GOLDEN: dict[OptimizerName, tuple[list[float], float]] = {
    "adamw": (
        [
            *(4.592472, 4.612195, 4.629812, 4.635640, 4.466811, 4.390627),
            *(4.372681, 4.400962, 4.174337, 4.171062, 4.125249, 4.208571),
        ],
        0.1 * 100 * 2**-23,
    ),
    "muon": (
        [
            *(4.592472, 4.610568, 4.637042, 4.631884, 4.464535, 4.326448),
            *(4.328451, 4.370176, 4.147422, 4.155832, 4.141047, 4.162404),
        ],
        0.1 * 2**-8,
    ),
    "adafactor": (
        [
            *(4.592472, 4.605714, 4.613187, 4.594496, 4.532943, 4.534929),
            *(4.537414, 4.527431, 4.403651, 4.428484, 4.439414, 4.425536),
        ],
        0.1 * 100 * 2**-23,
    ),
}


class Interrupt(Callback):
    """Stops the run after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            signal.raise_signal(signal.SIGINT)


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in metrics(out) if "loss" in line]


@pytest.mark.parametrize("optimizer", GOLDEN)
def test_losses_are_golden(tmp_path: Path, optimizer: OptimizerName) -> None:
    expected, tolerance = GOLDEN[optimizer]

    tiny_trainer(tmp_path, settings=SETTINGS.changed(optimizer=optimizer, lr=LR[optimizer])).fit()

    assert losses(tmp_path / "out") == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("optimizer", GOLDEN)
def test_few_rows_are_learned_by_heart(tmp_path: Path, optimizer: OptimizerName) -> None:
    """An epoch of the tiny corpus is four steps; after eight of them little is left to learn."""
    settings = SETTINGS.changed(steps=32, optimizer=optimizer, lr=2 * LR[optimizer])

    tiny_trainer(tmp_path, settings=settings, tie_embeddings=False).fit()

    found = losses(tmp_path / "out")
    assert sum(found[-4:]) < 0.7 * sum(found[:4])


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "muon"},
        {"optimizer": "adafactor", "lr": 0.1},
        {"optimizer": "muon", "ema_decay": 0.9, "layer_decay": 0.5},
        {"ema_decay": 0.9, "dtype": "float16"},
    ],
    ids=["muon", "adafactor", "average", "float16"],
)
def test_interrupted_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr("weldlm.trainer.LossScale", lambda: OVERFLOWING)
    settings = RUN.changed(**changes)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    tiny_trainer(whole, settings=settings).fit()

    tiny_trainer(cut, settings=settings, callbacks=[Interrupt(8)]).fit()
    tiny_trainer(cut, settings=settings).fit(resume=True)

    last = f"out/checkpoint-{RUN.steps}"
    states = [read_state(folder / last) for folder in (whole, cut)]
    assert tensor_files(cut / last) == tensor_files(whole / last)
    assert metrics(cut / "out") == metrics(whole / "out")
    assert states[0].loss_scale == states[1].loss_scale
    assert states[0].num_updates == states[1].num_updates == len(losses(whole / "out"))


def tensor_files(checkpoint: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in checkpoint.rglob("*.safetensors")}


def test_average_is_what_is_validated_saved_and_left(tmp_path: Path) -> None:
    evals: list[EvalReport] = []
    training: list[dict[str, torch.Tensor]] = []

    class Watch(Callback):
        def on_step(self, _report: StepReport) -> None:
            training.append(copied(trainer.model))

        def on_eval(self, report: EvalReport) -> None:
            evals.append(report)

    settings = SETTINGS.changed(steps=5, save_every=5, ema_decay=0.6)
    trainer = tiny_trainer(tmp_path, settings=settings, callbacks=[Watch()])
    ours = Ema(model := tiny_trainer(tmp_path).model, 0.6)

    result = trainer.fit()
    for weights in training:
        model.load_state_dict(weights, strict=False)
        ours.update()
    ours.apply()

    left, saved = copied(trainer.model), copied(load_pretrained(result.checkpoint, CausalLM))
    goes_on = load_file(result.checkpoint / "state" / "weights.safetensors")
    assert all(torch.equal(left[name], weight) for name, weight in model.named_parameters())
    assert all(torch.equal(saved[name], weight) for name, weight in model.named_parameters())
    assert all(torch.equal(goes_on[name], training[-1][name]) for name in goes_on)
    assert evals[-1].loss == validated(tmp_path, model)


def copied(model: Model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def validated(folder: Path, model: Model) -> float:
    """The validation loss of the weights as they are."""
    trainer = tiny_trainer(
        folder / "validated", settings=SETTINGS.changed(steps=1, warmup_steps=0, lr=1e-30)
    )
    trainer.model.load_state_dict(model.state_dict())
    valid = trainer.fit().valid
    assert valid is not None
    return valid.loss


def test_overflow_is_skipped_and_recovered_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same as torch's GradScaler in a plain loop, to the bit."""
    monkeypatch.setattr("weldlm.trainer.LossScale", lambda: OVERFLOWING)
    settings = SETTINGS.changed(dtype="float16")
    trainer = tiny_trainer(tmp_path, settings=settings)
    plain = tiny_trainer(tmp_path)
    batches = [plain._train_data(plain.settings).micro_batches(step) for step in range(12)]

    result = trainer.fit()
    scale = grad_scaler_loop(plain.model, [batch for (batch,) in batches], settings)

    state = read_state(result.checkpoint)
    num_skipped = sum("float16 overflowed; skipped it" in line for line in caplog.messages)
    assert 3 <= num_skipped <= 8
    assert state.num_updates == 12 - num_skipped == len(losses(tmp_path / "out"))
    assert state.loss_scale == LossScale(scale, 12 - num_skipped)
    assert all(map(torch.equal, trainer.model.parameters(), plain.model.parameters()))


def grad_scaler_loop(model: Model, batches: list[Any], settings: TrainSettings) -> float:
    """Trains in plain PyTorch; returns the last scale."""
    scaler = torch.amp.GradScaler("cpu", init_scale=OVERFLOWING.value)
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight for weight in weights if weight.dim() >= 2]},
            {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
        ],
        betas=settings.betas, weight_decay=settings.weight_decay, fused=True,
    )  # fmt: skip
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = model(*batch.arguments)[0] / batch.num_labels
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(weights, settings.clip_norm or 1e9)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        scaler.step(optimizer)
        scaler.update()
    return float(scaler.get_scale())


def test_what_no_scale_mends_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weldlm.trainer.LossScale", lambda: LossScale(4.0))
    trainer = tiny_trainer(tmp_path, settings=SETTINGS.changed(dtype="float16"))
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(torch.nan)

    with pytest.raises(FloatingPointError, match="step 3: the loss is nan"):
        trainer.fit()


def test_rates_of_layers_reach_the_weights(tmp_path: Path) -> None:
    """AdamW's first step moves every weight by its learning rate, where nothing decays."""
    settings = SETTINGS.changed(steps=1, warmup_steps=0, layer_decay=0.5, weight_decay=0.0)
    trainer = tiny_trainer(tmp_path, settings=settings)
    before = copied(trainer.model)

    trainer.fit()

    moved = {
        name: float((weight - before[name]).abs().max())
        for name, weight in copied(trainer.model).items()
    }
    factors = lr_factors(trainer.model, 0.5)
    expected = {name: settings.lr * factor for name, factor in factors.items()}
    # of a gradient g the step is lr * g / (|g| + eps), and g is far above eps somewhere
    assert moved == pytest.approx(expected, rel=1e-3)
