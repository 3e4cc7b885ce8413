"""A run that was interrupted, killed or damaged and then resumed equals one that was not."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import torch

from tests.engine.tiny_runs import RUN, contents, metrics, tiny_shards, tiny_trainer
from weldlm.callbacks import Callback, StepReport
from weldlm.checkpoint import newest_valid
from weldlm.train_settings import TrainSettings

ROOT = Path(__file__).parents[2]


class Signal(Callback):
    """Sends the program signals after a step."""

    def __init__(self, step: int, *numbers: signal.Signals) -> None:
        self.step = step
        self.numbers = numbers

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            for number in self.numbers:
                signal.raise_signal(number)


class FullDisk(Callback):
    """Lets no file grow beyond 20 kB from a step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard_limit))


@contextmanager
def file_size_limit_restored() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that went through."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    tiny_trainer(folder).fit()
    return folder


def assert_same_run(folder: Path, uninterrupted: Path) -> None:
    last = f"checkpoint-{RUN.steps}"
    assert contents(folder / "out" / last) == contents(uninterrupted / "out" / last)
    assert metrics(folder / "out") == metrics(uninterrupted / "out")


def run_and_kill(folder: Path, what: str, number: int) -> int:
    """Starts the run, or goes on with it, in a program that kills itself; its return code."""
    command = [sys.executable, "-m", "tests.engine.killed_run", str(folder), what, str(number)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **threads}, check=False).returncode


@pytest.mark.parametrize(
    "step",
    [1, 2, 4, 5, 8, 13],
    ids=[
        "first step",
        "inside an epoch",
        "at a validation and the end of an epoch",
        "at a checkpoint",
        "at the end of the second epoch",
        "before the last",
    ],
)
def test_interrupted_equals_uninterrupted(tmp_path: Path, uninterrupted: Path, step: int) -> None:
    result = tiny_trainer(tmp_path, callbacks=[Signal(step, signal.SIGINT)]).fit()

    tiny_trainer(tmp_path).fit(resume=True)

    assert (result.step, result.exit_code) == (step, 130)
    assert_same_run(tmp_path, uninterrupted)


def test_many_interruptions_equal_none(tmp_path: Path, uninterrupted: Path) -> None:
    for step in (3, 4, 5, 12):
        tiny_trainer(tmp_path, callbacks=[Signal(step, signal.SIGTERM)]).fit(resume="auto")

    result = tiny_trainer(tmp_path).fit(resume="auto")

    assert result.exit_code == 0
    assert_same_run(tmp_path, uninterrupted)


def test_random_draws_of_others_go_on_where_they_were(tmp_path: Path) -> None:
    class Draw(Callback):
        def __init__(self) -> None:
            self.drawn: list[float] = []

        def on_step(self, _report: StepReport) -> None:
            self.drawn.append(float(torch.rand(())))

    whole, first, second = Draw(), Draw(), Draw()
    tiny_trainer(tmp_path / "whole", callbacks=[whole]).fit()
    tiny_trainer(tmp_path / "cut", callbacks=[first, Signal(8, signal.SIGINT)]).fit()
    tiny_trainer(tmp_path / "cut", callbacks=[second]).fit(resume=True)

    assert first.drawn + second.drawn == whole.drawn


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_signal_saves_and_says_so(tmp_path: Path, number: signal.Signals, exit_code: int) -> None:
    result = tiny_trainer(tmp_path, callbacks=[Signal(7, number)]).fit()

    assert (result.step, result.exit_code) == (7, exit_code)
    assert newest_valid(tmp_path / "out").newest == tmp_path / "out" / "checkpoint-7"


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
    ids=["INT", "TERM"],
)
def test_second_signal_exits_at_once(
    tmp_path: Path, number: signal.Signals, error: type[BaseException]
) -> None:
    trainer = tiny_trainer(tmp_path, callbacks=[Signal(7, number, number)])

    with pytest.raises(error):
        trainer.fit()

    assert newest_valid(tmp_path / "out").newest == tmp_path / "out" / "checkpoint-5"


@pytest.mark.parametrize(
    ("what", "number"),
    [("step", 9), ("sync", 14), ("sync", 30)],
    ids=["in a step", "while files are written", "before older ones go"],
)
def test_killed_equals_uninterrupted(
    tmp_path: Path, uninterrupted: Path, what: str, number: int
) -> None:
    return_code = run_and_kill(tmp_path, what, number)

    tiny_trainer(tmp_path).fit(resume="auto")

    assert return_code == -signal.SIGKILL
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_twice_killed_anywhere_equals_uninterrupted(
    tmp_path: Path, uninterrupted: Path, seed: int
) -> None:
    draw = random.Random(seed)
    kills = [draw.choice([("step", 14), ("sync", 30)]) for _ in range(2)]

    codes = [run_and_kill(tmp_path, what, draw.randint(1, most)) for what, most in kills]
    tiny_trainer(tmp_path).fit(resume="auto")

    assert codes[0] == -signal.SIGKILL
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "state/optimizer.safetensors", "state/run.json", "manifest.json"]
)
def test_truncated_newest_checkpoint_is_passed_over(
    tmp_path: Path, uninterrupted: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    tiny_trainer(tmp_path, callbacks=[Signal(12, signal.SIGINT)]).fit()
    with (tmp_path / "out" / "checkpoint-12" / name).open("r+b") as file:
        file.truncate(50)

    tiny_trainer(tmp_path).fit(resume=True)

    assert [message.split("out/")[0] for message in caplog.messages] == [
        f"passed over a damaged checkpoint: checkpoint-12: {tmp_path}/"
    ]
    assert_same_run(tmp_path, uninterrupted)


def test_damaged_checkpoint_does_not_push_out_good_ones(tmp_path: Path) -> None:
    interrupt = [Signal(12, signal.SIGINT)]
    tiny_trainer(tmp_path, settings=RUN.changed(keep_checkpoints=3), callbacks=interrupt).fit()
    (tmp_path / "out" / "checkpoint-12" / "config.json").unlink()
    (tmp_path / "out" / "checkpoint-10" / "config.json").unlink()

    interrupt = [Signal(7, signal.SIGINT)]
    settings = RUN.changed(keep_checkpoints=1)
    tiny_trainer(tmp_path, settings=settings, callbacks=interrupt).fit(resume=True)

    assert newest_valid(tmp_path / "out").newest == tmp_path / "out" / "checkpoint-7"


def test_nothing_whole_is_an_error_that_names_the_damage(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, callbacks=[Signal(2, signal.SIGINT)]).fit()
    (tmp_path / "out" / "checkpoint-2" / "config.json").unlink()

    with pytest.raises(ValueError, match=r"no checkpoint .* is whole .*config.json is missing"):
        tiny_trainer(tmp_path).fit(resume="auto")


def test_full_disk_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, callbacks=[FullDisk(7)])

    with (
        file_size_limit_restored(),
        pytest.raises(OSError, match=r"checkpoint-10 could not be written .* checkpoint-5"),
    ):
        trainer.fit()

    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {".lock", "checkpoint-5", "metrics.jsonl", "run.json"}
    assert newest_valid(tmp_path / "out").damaged == ()


@pytest.mark.parametrize("num_syncs", [0, 6, 20])
def test_run_goes_on_after_the_disk_was_full(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, num_syncs: int
) -> None:
    sync, calls = os.fsync, count(1)

    def full(descriptor: int) -> None:
        if next(calls) > num_syncs:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    trainer = tiny_trainer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("weldlm.atomic_file.os.fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            trainer.fit()

    tiny_trainer(tmp_path).fit(resume="auto")

    assert_same_run(tmp_path, uninterrupted)


def test_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    first = tiny_trainer(tmp_path).fit()
    before = contents(first.checkpoint), metrics(tmp_path / "out")

    again = tiny_trainer(tmp_path).fit(resume=True)

    assert (again.step, again.checkpoint, again.loss) == (14, first.checkpoint, None)
    assert (contents(again.checkpoint), metrics(tmp_path / "out")) == before


def test_resuming_without_being_asked_is_refused(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, callbacks=[Signal(2, signal.SIGINT)]).fit()

    with pytest.raises(FileExistsError, match="already holds checkpoints; resume"):
        tiny_trainer(tmp_path).fit()


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint; start without resume"):
        tiny_trainer(tmp_path).fit(resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RUN.changed(lr=2e-2), "was trained with lr = 0.01, but 0.02 is given"),
        (RUN.changed(steps=30), "was trained with steps = 14, but 30 is given"),
        (RUN.changed(seed=1), "was trained with seed = 0, but 1 is given"),
        (RUN.changed(rows_per_step=4), "was trained with rows_per_step = 3, but 4 is given"),
        (RUN.changed(dtype="bfloat16"), "was trained with dtype = float32, but bfloat16 is given"),
        (RUN.changed(clip_norm=None), "was trained with clip_norm = 1.0, but None is given"),
    ],
    ids=["lr", "steps", "seed", "rows_per_step", "dtype", "clip_norm"],
)
def test_other_settings_are_refused_by_name(
    tmp_path: Path, settings: TrainSettings, message: str
) -> None:
    tiny_trainer(tmp_path, callbacks=[Signal(2, signal.SIGINT)]).fit()

    with pytest.raises(ValueError, match=message):
        tiny_trainer(tmp_path, settings=settings).fit(resume=True)


def test_other_model_is_refused_by_field(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, callbacks=[Signal(2, signal.SIGINT)]).fit()

    with pytest.raises(ValueError, match="with the model's num_layers = 1, but 2 is given"):
        tiny_trainer(tmp_path, num_layers=2).fit(resume=True)


def test_other_data_is_refused(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, callbacks=[Signal(2, signal.SIGINT)]).fit()

    with pytest.raises(ValueError, match=r"was trained on data with fingerprint \w{12}, but"):
        tiny_trainer(tmp_path, data=tiny_shards(tmp_path / "other", seed=5)).fit(resume=True)


def test_refusal_leaves_the_run_resumable(tmp_path: Path, uninterrupted: Path) -> None:
    tiny_trainer(tmp_path, callbacks=[Signal(7, signal.SIGINT)]).fit()
    with pytest.raises(ValueError, match="was trained with lr"):
        tiny_trainer(tmp_path, settings=RUN.changed(lr=2e-2)).fit(resume=True)

    tiny_trainer(tmp_path).fit(resume=True)

    assert_same_run(tmp_path, uninterrupted)


def test_micro_batch_rows_may_change_and_only_rounding_follows(
    tmp_path: Path, uninterrupted: Path
) -> None:
    tiny_trainer(tmp_path, callbacks=[Signal(12, signal.SIGINT)]).fit()

    tiny_trainer(tmp_path, settings=RUN.changed(micro_batch_rows=1)).fit(resume=True)

    losses = [
        [line["loss"] for line in metrics(folder / "out") if "loss" in line]
        for folder in (tmp_path, uninterrupted)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
