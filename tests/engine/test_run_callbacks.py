"""What a run leaves for TensorBoard and for a trace viewer."""

import json
from pathlib import Path

import pytest

from tests.engine.tiny_runs import RUN, metrics, tiny_trainer
from weldlm.profile_callback import ProfileCallback
from weldlm.tensorboard_callback import TensorBoardCallback

SETTINGS = RUN.changed(steps=4, eval_every=2)


def test_tensorboard_shows_what_the_metrics_say(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = TensorBoardCallback(tmp_path / "events")
    tiny_trainer(tmp_path, settings=SETTINGS, callbacks=[callback]).fit()

    events = EventAccumulator(str(tmp_path / "events")).Reload()
    lines = metrics(tmp_path / "out")
    shown = [event.value for event in events.Scalars("train/loss")]
    assert shown == pytest.approx([line["loss"] for line in lines if "loss" in line])
    assert [event.step for event in events.Scalars("valid/loss")] == [2, 4]


@pytest.mark.parametrize("steps", [3, 9], ids=["whole", "longer than the run"])
def test_trace_holds_the_steps_asked_for(tmp_path: Path, steps: int) -> None:
    callback = ProfileCallback(tmp_path / "trace.json", skipped_steps=1, steps=steps)
    tiny_trainer(tmp_path, settings=SETTINGS, callbacks=[callback]).fit()

    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert any("Optimizer.step#AdamW.step" in str(event.get("name")) for event in events)
