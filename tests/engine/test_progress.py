"""Progress says loss, speed and remaining time, on a terminal and elsewhere."""

import io
from pathlib import Path

import pytest

from weldlm.callbacks import Callback, EvalReport, StartReport, StepReport, TrainResult
from weldlm.progress import PlainProgress, ProgressBar, progress_callback
from weldlm.train_settings import TrainSettings

SETTINGS = TrainSettings(steps=4000, row_length=16, rows_per_step=3, dtype="float32")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step_report(step: int, *, step_seconds: float = 2.0) -> StepReport:
    return StepReport(
        step=step,
        num_steps=4000,
        loss=1.23456,
        lr=1e-3,
        grad_norm=0.5,
        tokens=step * 48,
        tokens_per_second=48 / step_seconds,
        elapsed=1.0,
        step_seconds=step_seconds,
    )


def run(callback: Callback, steps: list[StepReport], *, signal_number: int | None = None) -> None:
    callback.on_start(
        StartReport(
            settings=SETTINGS,
            first_step=0,
            num_steps=4000,
            num_parameters=12_345,
            tokens_per_step=48,
            device="cpu",
            resumed_from=None,
            flops=1.5e15,
            memory_bytes=3 << 28,
        )
    )
    for step in steps:
        callback.on_step(step)
    callback.on_eval(EvalReport(100, 2.5, 0.75, 10))
    callback.on_save(Path("out/checkpoint-100"))
    callback.on_end(
        TrainResult(
            step=100,
            num_steps=4000,
            loss=1.0,
            valid=None,
            checkpoint=Path("out/checkpoint-100"),
            signal_number=signal_number,
        )
    )


def test_plain_lines_say_all_that_happens() -> None:
    stream = io.StringIO()

    run(PlainProgress(stream), [step_report(100)], signal_number=2)

    assert stream.getvalue().splitlines() == [
        "12,345 parameters on cpu in float32, steps 0 to 4000 of 48 tokens: about 1.5e+15 "
        "operations, at least 0.75 GiB",
        "step 100/4000  loss 1.2346  24 tokens/s  2:10:00 left",
        "step 100  validation loss 2.5000  0.7500 bits/byte",
        "saved out/checkpoint-100",
        "interrupted after step 100 of 4000; resume from out/checkpoint-100",
    ]


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    stream = io.StringIO()

    run(PlainProgress(stream, seconds=3600), [step_report(step) for step in (1, 2, 3, 4000)])

    steps = [line.split()[1] for line in stream.getvalue().splitlines() if "left" in line]
    assert steps == ["1/4000", "4000/4000"]


def test_one_slow_step_does_not_shake_the_remaining_time() -> None:
    stream = io.StringIO()
    steps = [step_report(step) for step in range(90, 100)]

    run(PlainProgress(stream, seconds=0), [*steps, step_report(100, step_seconds=500.0)])

    assert "step 100/4000  loss 1.2346  24 tokens/s  2:10:00 left" in stream.getvalue()


def test_bar_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    run(ProgressBar(stream), [step_report(100)])

    assert "100/4000  loss 1.2346  24 tokens/s  2:10:00 left" in stream.getvalue()
    assert "saved out/checkpoint-100" in stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "kind"),
    [(Terminal(), ProgressBar), (io.StringIO(), PlainProgress)],
    ids=["terminal", "file"],
)
def test_stream_decides(stream: io.StringIO, kind: type[Callback]) -> None:
    assert type(progress_callback(stream)) is kind
