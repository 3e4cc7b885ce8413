"""TrainerCallback: rates of runs of HF Trainer, and its guards."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import weldlm
from tests.engine.patched_models import batch_of, tiny_model
from weldlm.step_meter import flops_per_token

accelerate = pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")

LENGTHS = (3, 11, 1, 7)


def run(family: str, folder: Path, callback: Any, **settings: Any) -> Any:
    """The trainer after three steps of four rows of `LENGTHS`, and its model."""
    model = settings.pop("model", None) or tiny_model(family)
    batch = batch_of(model, lengths=LENGTHS)
    rows = [{name: values[row] for name, values in batch.items()} for row in range(4)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=3, per_device_train_batch_size=4, logging_steps=1,
        save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, **settings,
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=rows * 6, callbacks=[callback])
    trainer.train()
    return trainer


@pytest.mark.parametrize("is_patched", [False, True], ids=["plain", "patched"])
def test_logs_count_real_tokens(tmp_path: Path, is_patched: bool) -> None:
    model = tiny_model("bert")
    if is_patched:
        weldlm.patch(model)

    trainer = run("bert", tmp_path, weldlm.TrainerCallback(peak_flops=1e9), model=model)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]

    assert len(logs) == 3
    # rows are shuffled, but a step takes four, and their mask is of eleven columns
    assert all(0.0 < entry["padding_share"] < 0.95 for entry in logs)
    for entry in logs:
        assert entry["mfu"] == pytest.approx(
            entry["tokens_per_second"] * flops_per_token(model) / 1e9
        )
        assert 0.05 < entry["peak_memory_gib"] < 500
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_padding_share_is_that_of_the_masks() -> None:
    model = tiny_model("bert").train()
    callback: Any = weldlm.TrainerCallback()
    callback.before_forward(model, (), batch_of(model, lengths=LENGTHS))

    report = callback.meter.report(torch.device("cpu"))

    assert report["padding_share"] == pytest.approx(1 - 22 / 44)
    assert "mfu" not in report


def test_encoder_and_decoder_are_counted() -> None:
    model = tiny_model("t5").train()
    callback: Any = weldlm.TrainerCallback()
    callback.before_forward(model, (), batch_of(model, lengths=LENGTHS))

    report = callback.meter.report(torch.device("cpu"))

    # 22 of 4 x 11 for the encoder, two more a row for the decoder
    assert report["padding_share"] == pytest.approx(1 - (22 + 30) / (44 + 52))


def test_flops_are_those_of_the_matrices() -> None:
    model = tiny_model("gpt2")
    layer = 32 * 96 + 32 * 32 + 2 * 32 * 128

    assert flops_per_token(model) == 6 * (2 * layer + 97 * 32)


def test_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    model = tiny_model("bert")
    torch.nn.init.constant_(model.cls.predictions.bias, float("nan"))

    with pytest.raises(FloatingPointError, match="the loss of step 1 is not finite"):
        run("bert", tmp_path, weldlm.TrainerCallback(), model=model)


def test_loss_that_ignores_the_items_is_reported(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="BertForMaskedLM does not divide its loss by num_item"):
        run("bert", tmp_path, weldlm.TrainerCallback(), gradient_accumulation_steps=2)


@pytest.mark.parametrize("remedy", ["counts", "told", "single"])
def test_right_accumulation_is_not_reported(tmp_path: Path, remedy: str) -> None:
    model = tiny_model("llama" if remedy == "counts" else "bert")
    model.accepts_loss_kwargs = remedy != "told"

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*does not divide its loss")
        trainer = run(
            "", tmp_path, weldlm.TrainerCallback(), model=model,
            gradient_accumulation_steps=1 if remedy == "single" else 2,
        )  # fmt: skip

    assert trainer.state.global_step == 3
