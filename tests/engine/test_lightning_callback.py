"""LightningCallback: what it logs, and its guards."""

from pathlib import Path
from typing import Any

import pytest
import torch

import weldlm
from tests.engine.patched_models import batch_of, tiny_model

lightning: Any = pytest.importorskip("lightning.pytorch")


def run(folder: Path, batches: Any, model: Any, **settings: Any) -> Any:
    """Lightning's Trainer after one epoch of `batches`."""

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: dict[str, Any], _: int) -> Any:
            return self.model(**batch).loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-2)

    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(folder),
        callbacks=[weldlm.LightningCallback(peak_flops=1e9)], **settings,
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(batches, batch_size=None))
    return trainer


def test_rates_are_logged(tmp_path: Path) -> None:
    model = tiny_model("bert")
    weldlm.patch(model)

    trainer = run(tmp_path, [batch_of(model), batch_of(model)], model)

    assert trainer.logged_metrics["padding_share"].item() == pytest.approx(0.5)
    assert trainer.logged_metrics["tokens_per_second"] > 0
    assert trainer.logged_metrics["mfu"] > 0


def test_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    model = tiny_model("bert")
    torch.nn.init.constant_(model.cls.predictions.bias, float("nan"))

    with pytest.raises(FloatingPointError, match="the loss of batch 0 is not finite"):
        run(tmp_path, [batch_of(model)], model)


def test_unequal_micro_batches_are_reported(tmp_path: Path) -> None:
    model = tiny_model("bert")
    batches = [batch_of(model), batch_of(model, lengths=(3, 4))]

    with pytest.warns(RuntimeWarning, match=r"micro-batches of one step have \d+ to \d+ labels"):
        run(tmp_path, batches, model, accumulate_grad_batches=2)
