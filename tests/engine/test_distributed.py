"""Two processes do what one does: the same samples, loss, gradient, and checkpoints for either."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.objective_cases import CASES
from tests.engine.ranked_runs import (
    KINDS,
    RANKED,
    SHARDED,
    StopAfter,
    fit,
    gradient,
    lay_out,
    run_on_ranks,
    sample_ids,
    scores,
    share_of_everything,
)
from tests.engine.tiny_models import tiny_model
from tests.engine.tiny_runs import contents, metrics, tiny_trainer
from weldlm.adapters import LoraSettings, add_lora
from weldlm.checkpoint import load_weights, newest_valid
from weldlm.distributed import Ranks, build_replica, join_ranks

LAST = f"checkpoint-{RANKED.steps}"
FILES = ("model.safetensors", "state/optimizer.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranked")
    lay_out(folder)
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """A run on one process."""
    fit(folder / "alone")
    return folder / "alone" / "out"


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What each of two ranks found; their runs lie in `folder`."""
    for kind in KINDS:
        for run, settings in (("one-then-two", RANKED), ("one-in-parts", SHARDED)):
            stopped = tiny_trainer(folder / kind / run, settings=settings, callbacks=[StopAlone()])
            stopped.model.double()
            stopped.fit()
    return run_on_ranks(share_of_everything, folder)


class StopAlone(StopAfter):
    """The same signal where there is one process."""

    def __init__(self) -> None:
        super().__init__(6, 0)

    def on_step(self, report: Any) -> None:
        if report.step == self.step:
            signal.raise_signal(signal.SIGTERM)


def assert_same_weights(checkpoint: Path, expected: Path) -> None:
    for name in FILES:
        torch.testing.assert_close(
            load_file(checkpoint / name), load_file(expected / name), rtol=1e-6, atol=1e-6
        )


def losses(out: Path) -> list[float]:
    return [line.get("loss", line.get("valid_loss", 0.0)) for line in metrics(out)]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("total", [3.0, 1.0]),
        ("of_first", 10.0),
        ("asked", "rank 0"),
        ("problem", "[Errno 2] No such file or directory: '/not/here/0/there'"),
        ("stopped_by", signal.SIGTERM),
    ],
)
def test_all_ranks_know_the_same(found: list[dict[str, Any]], what: str, expected: Any) -> None:
    assert [rank[what] for rank in found] == [expected, expected]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_one_process(
    found: list[dict[str, Any]], folder: Path, name: str, kind: str
) -> None:
    expected = gradient(name, folder, Ranks())

    loss_and_gradient = found[0]["gradients"][f"{name} {kind}"]
    torch.testing.assert_close(loss_and_gradient, expected, rtol=1e-6, atol=1e-9)


def test_whole_copy_of_a_sharded_model_computes_the_same(
    found: list[dict[str, Any]], folder: Path
) -> None:
    expected = scores("seq2seq", folder, Ranks())

    assert torch.equal(found[0]["scores"], expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_ranks_take_the_samples_of_one_process(
    found: list[dict[str, Any]], folder: Path, name: str
) -> None:
    first, second = (rank["sample_ids"][name] for rank in found)

    together = [one + other for one, other in zip(first, second, strict=True)]

    assert together == sample_ids(name, folder, Ranks())


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("kind", KINDS)
def test_run_equals_one_process(folder: Path, alone: Path, kind: str) -> None:
    out = folder / kind / "whole" / "out"

    assert_same_weights(out / LAST, alone / LAST)
    assert losses(out) == pytest.approx(losses(alone), rel=1e-6)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_run_equals_an_uninterrupted_one(folder: Path, kind: str) -> None:
    cut, whole = folder / kind / "cut" / "out", folder / kind / "whole" / "out"

    assert (cut / "checkpoint-6").is_dir()  # where only the second rank heard the signal
    assert contents(cut / LAST) == contents(whole / LAST)
    assert metrics(cut) == metrics(whole)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("kind", KINDS)
def test_saved_by_two_goes_on_with_one(folder: Path, alone: Path, kind: str) -> None:
    fit(folder / kind / "two-then-one", resume=True)

    out = folder / kind / "two-then-one" / "out"
    assert_same_weights(out / LAST, alone / LAST)
    assert losses(out) == pytest.approx(losses(alone), rel=1e-6)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("kind", KINDS)
def test_saved_by_one_goes_on_with_two(folder: Path, alone: Path, kind: str) -> None:
    out = folder / kind / "one-then-two" / "out"

    assert_same_weights(out / LAST, alone / LAST)
    assert losses(out) == pytest.approx(losses(alone), rel=1e-6)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_in_parts_goes_on_as_an_uninterrupted_run(folder: Path, kind: str) -> None:
    cut, whole = folder / kind / "parts" / "out", folder / kind / "whole" / "out"

    names = {path.name for path in (cut / "checkpoint-6" / "state" / "shards").iterdir()}
    assert names == {".metadata", "__0_0.distcp", "__1_0.distcp"}
    assert newest_valid(cut).damaged == ()
    assert contents(cut / LAST) == contents(whole / LAST)
    assert metrics(cut) == metrics(whole)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_two_go_on_with_one(folder: Path, alone: Path, kind: str) -> None:
    fit(folder / kind / "parts-then-one", resume=True)

    out = folder / kind / "parts-then-one" / "out"
    assert_same_weights(out / LAST, alone / LAST)
    assert losses(out) == pytest.approx(losses(alone), rel=1e-6)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_one_go_on_with_two(folder: Path, alone: Path, kind: str) -> None:
    out = folder / kind / "one-in-parts" / "out"

    found, expected = load_weights(out / LAST), load_weights(alone / LAST)
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=1e-6, atol=1e-6)
    assert losses(out) == pytest.approx(losses(alone), rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"optimizer": "muon"}, "optimizer muon"),
        ({"optimizer": "adafactor"}, "optimizer adafactor"),
        ({"ema_decay": 0.9}, "ema_decay"),
        ({"dtype": "float16"}, "dtype float16"),
    ],
    ids=str,
)
def test_what_weights_in_parts_cannot_do_is_refused_by_name(
    settings: dict[str, Any], what: str
) -> None:
    asked = RANKED.changed(parallel="fsdp", **settings)

    with pytest.raises(ValueError, match=f"^parallel is fsdp together with {what}; expected none"):
        build_replica(tiny_model(), Ranks(0, 2), asked)


def test_adapters_in_parts_are_refused_by_name() -> None:
    model = tiny_model()
    add_lora(model, LoraSettings(rank=2))

    with pytest.raises(ValueError, match=r"^parallel is fsdp together with adapters; "):
        build_replica(model, Ranks(0, 2), RANKED.changed(parallel="fsdp"))


def test_incomplete_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")

    with (
        pytest.raises(ValueError, match="LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"),
        join_ranks("cpu"),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_command_trains_under_torchrun(tmp_path: Path, kind: str) -> None:
    corpus = "".join(f"def f{n}(x):\n    return x + {n}\n\n" for n in range(200))
    (tmp_path / "corpus.txt").write_text(corpus)
    options = ("--steps=4", "--context-length=32", "--rows-per-step=3", "--vocab-size=300")
    weldlm = ("-m", "weldlm", "train", "--data=corpus.txt", "--dtype=float32", *options)

    ranked = ("-m", "torch.distributed.run", "--nproc-per-node=2", *weldlm, f"--parallel={kind}")
    for command, out in ((weldlm, "one"), (ranked, "two")):
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
        arguments = [sys.executable, *command, f"--out={out}"]
        subprocess.run(arguments, cwd=tmp_path, env=environment, check=True, timeout=240)

    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()
