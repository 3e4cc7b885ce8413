"""Checkpoints in parts, at once and while training goes on: what they hold, and when they break."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.ranked_runs import RANKED, fit
from tests.engine.tiny_models import tiny_model
from tests.engine.tiny_runs import IN_PARTS, RUN, contents, metrics, tiny_shards, tiny_trainer
from weldlm.adapters import LoraSettings, add_lora
from weldlm.callbacks import Callback, StepReport
from weldlm.checkpoint import load_weights, newest_valid
from weldlm.convert import convert_model
from weldlm.heads import CausalLM
from weldlm.sealed_folder import lock_folder
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.weights import load_pretrained

ROOT = Path(__file__).parents[2]
LAST = f"checkpoint-{RUN.steps}"


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            signal.raise_signal(signal.SIGTERM)


class Saved(Callback):
    """Notes after which step each checkpoint was there."""

    def __init__(self) -> None:
        self.step = 0
        self.found: list[tuple[str, int]] = []

    def on_step(self, report: StepReport) -> None:
        self.step = report.step

    def on_save(self, checkpoint: Path) -> None:
        self.found.append((checkpoint.name, self.step))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with whole checkpoints that went through."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    tiny_trainer(folder).fit()
    return folder


def assert_same_run(folder: Path, uninterrupted: Path) -> None:
    assert contents(folder / "out" / LAST) == contents(uninterrupted / "out" / LAST)
    assert metrics(folder / "out") == metrics(uninterrupted / "out")


def run_and_kill(folder: Path, number: int) -> int:
    """The run with checkpoints in parts, killed at the n-th write that is forced to the disk."""
    arguments = ("-m", "tests.engine.killed_run", str(folder), "sync", str(number), "async")
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment = {**os.environ, **threads}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def wait_until_free(out: Path) -> None:
    """Processes that were killed end one after the other."""
    for _ in range(100):
        with suppress(BlockingIOError), lock_folder(out):
            return
        time.sleep(0.1)


@pytest.mark.parametrize(
    "settings", [IN_PARTS.changed(async_save=False), IN_PARTS], ids=["at once", "async"]
)
def test_interrupted_equals_uninterrupted(
    tmp_path: Path, uninterrupted: Path, settings: TrainSettings
) -> None:
    result = tiny_trainer(tmp_path, settings=settings, callbacks=[StopAfter(8)]).fit()

    tiny_trainer(tmp_path).fit(resume=True)

    assert result.checkpoint == tmp_path / "out" / "checkpoint-8"
    assert_same_run(tmp_path, uninterrupted)


def test_averaged_weights_come_back(tmp_path: Path) -> None:
    averaged = {"ema_decay": 0.9, "optimizer": "adafactor"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    tiny_trainer(whole, settings=RUN.changed(**averaged)).fit()
    tiny_trainer(cut, settings=IN_PARTS.changed(**averaged), callbacks=[StopAfter(8)]).fit()

    tiny_trainer(cut, settings=RUN.changed(**averaged)).fit(resume=True)

    assert contents(cut / "out" / LAST) == contents(whole / "out" / LAST)
    own = [folder / "out" / LAST / "state" / "weights.safetensors" for folder in (cut, whole)]
    torch.testing.assert_close(load_file(own[0]), load_file(own[1]), rtol=0, atol=0)


def test_training_goes_on_meanwhile_and_waits_at_the_next_save(tmp_path: Path) -> None:
    saved = Saved()

    result = tiny_trainer(tmp_path, settings=IN_PARTS, callbacks=[saved]).fit()

    assert saved.found == [("checkpoint-5", 10), ("checkpoint-10", 14), (LAST, 14)]
    assert result.checkpoint == tmp_path / "out" / LAST


@pytest.mark.slow
def test_killed_while_parts_are_written_equals_uninterrupted(
    tmp_path: Path, uninterrupted: Path
) -> None:
    return_code = run_and_kill(tmp_path, 18)

    tiny_trainer(tmp_path).fit(resume="auto")

    assert return_code == -signal.SIGKILL
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_twice_killed_anywhere_equals_uninterrupted(
    tmp_path: Path, uninterrupted: Path, seed: int
) -> None:
    draw = random.Random(seed)

    codes = [run_and_kill(tmp_path, draw.randint(1, 40)) for _ in range(2)]
    tiny_trainer(tmp_path).fit(resume="auto")  # nothing where both kills came too late

    assert codes[0] == -signal.SIGKILL
    found, expected = (
        load_weights(folder / "out" / LAST).state_dict() for folder in (tmp_path, uninterrupted)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert metrics(tmp_path / "out") == metrics(uninterrupted / "out")


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "number"), [(0, 8), (0, 16), (0, 24), (1, 1), (1, 2), (1, 3)])
def test_two_ranks_killed_while_one_writes_go_on_from_the_last_whole_checkpoint(
    tmp_path: Path, rank: int, number: int
) -> None:
    for run in ("run", "alone"):
        tiny_shards(tmp_path / run / "data")
        tiny_shards(tmp_path / run / "valid", seed=1)
    arguments = ("-m", "tests.engine.killed_ranks", str(tmp_path), str(rank), str(number))
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}

    killed = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **threads},
        check=False,
        start_new_session=True,
    )
    wait_until_free(tmp_path / "run" / "out")
    fit(tmp_path / "run", resume="auto")
    fit(tmp_path / "alone")

    assert killed.returncode == -signal.SIGKILL
    found, expected = (
        load_weights(tmp_path / run / "out" / f"checkpoint-{RANKED.steps}").state_dict()
        for run in ("run", "alone")
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_full_disk_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def full(descriptor: int) -> None:
        if ".checkpoint-10.partial/state/shards" in str(
            Path(f"/proc/self/fd/{descriptor}").readlink()
        ):
            raise OSError(28, os.strerror(28))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        OSError,
        match=r"checkpoint-10 could not be written .rank 0: .*No space.* kept: checkpoint-5",
    ):
        tiny_trainer(tmp_path, settings=IN_PARTS).fit()

    assert newest_valid(tmp_path / "out").newest == tmp_path / "out" / "checkpoint-5"
    assert not list((tmp_path / "out").glob(".checkpoint*"))


def test_damaged_part_is_passed_over(tmp_path: Path, uninterrupted: Path) -> None:
    tiny_trainer(tmp_path, settings=IN_PARTS, callbacks=[StopAfter(8)]).fit()
    with (tmp_path / "out" / "checkpoint-8" / "state/shards/__0_0.distcp").open("r+b") as file:
        file.truncate(50)

    tiny_trainer(tmp_path).fit(resume=True)

    assert_same_run(tmp_path, uninterrupted)


def test_pickle_in_the_place_of_a_description_is_refused(tmp_path: Path) -> None:
    class Command:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "made"),)

    settings = IN_PARTS.changed(steps=1)
    checkpoint = tiny_trainer(tmp_path, settings=settings).fit().checkpoint
    (checkpoint / "state" / "shards" / ".metadata").write_bytes(pickle.dumps(Command()))

    with pytest.raises(ValueError, match=r"asks for posix.mkdir; expected descriptions"):
        load_weights(checkpoint)

    assert not (tmp_path / "made").exists()


def test_whole_weights_are_written_by_convert(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, settings=IN_PARTS.changed(steps=2))
    checkpoint = trainer.fit().checkpoint
    with pytest.raises(ValueError, match=r"is a checkpoint in parts; .* 'weldlm convert"):
        load_pretrained(checkpoint, CausalLM)

    convert_model(checkpoint, tmp_path / "model")

    found, expected = load_pretrained(tmp_path / "model").state_dict(), trainer.model.state_dict()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_adapters_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    add_lora(model, LoraSettings(rank=2))

    with pytest.raises(ValueError, match="state_dict_type is sharded, but the model has adapters"):
        Trainer(model, tiny_shards(tmp_path / "data"), IN_PARTS, tmp_path / "out")
