"""Programs that the tests run on several processes, and what they leave for them to compare."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.engine.objective_cases import CASES
from tests.engine.tiny_runs import tiny_shards, tiny_trainer
from weldlm.callbacks import Callback, StepReport
from weldlm.data import TokenShards
from weldlm.distributed import Ranks, Replica, StopVote, build_replica, join_ranks
from weldlm.interrupt import StopRequest
from weldlm.objectives import CausalLMObjective
from weldlm.step_share import draw_share
from weldlm.token_loss import accumulate_gradients
from weldlm.train_settings import Parallel, TrainSettings
from weldlm.training_data import ExampleBatches, TokenRows, TrainingData

__all__ = [
    "FIVE",
    "KINDS",
    "RANKED",
    "SHARDED",
    "WORLD_SIZE",
    "StopAfter",
    "build_data",
    "fit",
    "gradient",
    "lay_out",
    "run_on_ranks",
    "sample_ids",
    "scores",
]

WORLD_SIZE = 2

# five rows, which two ranks cannot share evenly: one micro-batch on the first, two on the second
FIVE = TrainSettings(steps=4, rows_per_step=5, row_length=14, micro_batch_rows=2, dtype="float32")
RANKED = TrainSettings(
    steps=10,
    rows_per_step=3,
    row_length=16,
    micro_batch_rows=1,
    lr=1e-2,
    eval_every=4,
    save_every=4,
    keep_checkpoints=10,
    dtype="float32",
)
# every rank writes its part of a checkpoint while the next step is taken
SHARDED = RANKED.changed(state_dict_type="sharded", async_save=True)

KINDS: tuple[Parallel, ...] = ("ddp", "fsdp")
RUNS = ("whole", "cut", "one-then-two", "parts", "one-in-parts")

Program = Callable[[Path, Ranks], dict[str, Any]]


class StopAfter(Callback):
    """Sends SIGTERM to one rank alone."""

    is_for_every_rank = True

    def __init__(self, step: int, rank: int) -> None:
        self.step = step
        self.rank = rank

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step and dist.get_rank() == self.rank:
            signal.raise_signal(signal.SIGTERM)


def lay_out(folder: Path) -> None:
    """Writes the data of all cases and runs before anything reads them."""
    tiny_shards(folder / "data")
    for run in (folder / kind / run for kind in KINDS for run in RUNS):
        tiny_shards(run / "data")
        tiny_shards(run / "valid", seed=1)


def run_on_ranks(program: Program, folder: Path) -> list[dict[str, Any]]:
    """Returns what `program` returns on each of two ranks."""
    mp.spawn(_join_and_run, (program, folder), nprocs=WORLD_SIZE)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"found-{rank}.pt") for rank in range(WORLD_SIZE)]


def _join_and_run(rank: int, program: Program, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    where = f"file://{folder}/meeting-{os.getppid()}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=WORLD_SIZE)
    with join_ranks("cpu") as ranks:
        torch.save(program(folder, ranks), folder / f"found-{rank}.pt")
    dist.destroy_process_group()


def build_data(name: str, folder: Path, settings: TrainSettings = FIVE) -> TrainingData:
    """The data of a case in an order of its own."""
    data, objective = CASES[name].data(folder), CASES[name].objective
    if isinstance(data, TokenShards):
        return TokenRows(data, objective or CausalLMObjective(), settings, 0)
    return ExampleBatches(data, settings, 0)


def gradient(
    name: str, folder: Path, ranks: Ranks, settings: TrainSettings = FIVE
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of the second step of a case, of all ranks together; fp64 in float32."""
    model = CASES[name].model()
    model = model.double() if settings.dtype == "float32" else model
    replica = build_replica(model, ranks, settings)
    share = draw_share(build_data(name, folder, settings), 1, replica)
    loss = accumulate_gradients(
        replica.module,
        share.batches,
        dtype=settings.dtype,  # type: ignore[arg-type]
        num_labels=share.labels_per_rank,
        before_last=replica.gathering,
    )
    weights = replica.model.named_parameters()
    gradients = {name: weight.grad for name, weight in weights if weight.grad is not None}
    return ranks.mean(float(loss)), replica.whole_tensors(gradients)


def sample_ids(name: str, folder: Path, ranks: Ranks) -> list[list[int]]:
    """What this rank takes of each of three steps."""
    data = build_data(name, folder)
    replica = Replica(CASES[name].model(), CASES[name].model(), ranks)
    shares = [draw_share(data, step, replica) for step in range(3)]
    return [[int(i) for batch in share.batches for i in batch.sample_ids] for share in shares]


def scores(name: str, folder: Path, ranks: Ranks) -> torch.Tensor | None:
    """The logits of a whole copy of a sharded model, on the first rank."""
    replica = build_replica(CASES[name].model(), ranks, FIVE.changed(parallel="fsdp"))
    model = replica.whole_model()
    source, target, _labels = build_data(name, folder).micro_batches(0)[0].arguments
    with torch.no_grad():
        return model.logits(source, target) if ranks.is_first else None  # type: ignore[operator]


def fit(
    folder: Path,
    *,
    resume: bool | Literal["auto"] = False,
    stop_on: int | None = None,
    settings: TrainSettings = RANKED,
) -> None:
    """Trains an fp64 model in `folder`, or goes on with it; `stop_on` gets a signal at step 6."""
    callbacks = [] if stop_on is None else [StopAfter(6, stop_on)]
    trainer = tiny_trainer(folder, settings=settings, callbacks=callbacks)
    trainer.model.double()
    trainer.fit(resume=resume)


def share_of_everything(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """All that the tests of the default run ask of two ranks."""
    found: dict[str, Any] = {
        "total": ranks.total(ranks.rank + 1, 0.5),
        "of_first": ranks.of_first(10 + ranks.rank),
        "asked": ranks.ask_first(lambda: f"rank {ranks.rank}"),
        "problem": _problem_of_first(ranks),
        "stopped_by": _stopped_by(ranks),
        "gradients": {
            f"{name} {kind}": gradient(name, folder, ranks, FIVE.changed(parallel=kind))
            for name in CASES
            for kind in KINDS
        },
        "scores": scores("seq2seq", folder, ranks),
        "sample_ids": {name: sample_ids(name, folder, ranks) for name in CASES},
    }
    for kind in KINDS:
        settings = RANKED.changed(parallel=kind)
        fit(folder / kind / "whole", settings=settings)
        fit(folder / kind / "cut", settings=settings, stop_on=1)
        if ranks.is_first:
            shutil.copytree(folder / kind / "cut", folder / kind / "two-then-one")
        fit(folder / kind / "cut", settings=settings, resume=True)
        fit(folder / kind / "one-then-two", settings=settings, resume=True)
        in_parts = SHARDED.changed(parallel=kind)
        fit(folder / kind / "parts", settings=in_parts, stop_on=1)
        if ranks.is_first:
            shutil.copytree(folder / kind / "parts", folder / kind / "parts-then-one")
        fit(folder / kind / "parts", settings=settings, resume=True)
        fit(folder / kind / "one-in-parts", settings=in_parts, resume=True)
    return found


def _problem_of_first(ranks: Ranks) -> str:
    try:
        ranks.ask_first(lambda: (folder_of(ranks) / "there").read_text())
    except FileNotFoundError as error:
        return str(error)
    return ""


def folder_of(ranks: Ranks) -> Path:
    """A folder that does not exist, another for each rank."""
    return Path(f"/not/here/{ranks.rank}")


def _stopped_by(ranks: Ranks) -> int | None:
    stop = StopVote(StopRequest(signal.SIGTERM if ranks.rank == 1 else None), ranks)
    stop.poll()
    return stop.signal_number
