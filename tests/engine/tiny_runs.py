"""A corpus and a training run that take a second, and what two equal runs have in common."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tests.engine.tiny_models import tiny_config
from weldlm.callbacks import Callback
from weldlm.data import TokenShards, write_shards
from weldlm.heads import CausalLM
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer

__all__ = ["IN_PARTS", "RUN", "contents", "metrics", "tiny_shards", "tiny_trainer"]

# an epoch of the tiny corpus ends within the fourth step, the eighth and the twelfth
RUN = TrainSettings(
    steps=14,
    rows_per_step=3,
    row_length=16,
    lr=1e-2,
    eval_every=4,
    save_every=5,
    keep_checkpoints=2,
    dtype="float32",
)

# the same run, whose checkpoints are written in parts while it goes on
IN_PARTS = RUN.changed(state_dict_type="sharded", async_save=True)

_TIMINGS = ("tokens_per_second", "elapsed", "data_seconds", "peak_memory_gib", "mfu")


def tiny_shards(folder: Path, *, seed: int = 0) -> TokenShards:
    """20 documents of 0 to 19 ids below 97."""
    if folder.exists():
        return TokenShards.open(folder)
    generator = np.random.default_rng(seed)
    documents = [generator.integers(97, size=length) for length in range(20)]
    return write_shards(folder, documents, vocab_size=97, source_bytes=1000)


def tiny_trainer(
    folder: Path,
    *,
    settings: TrainSettings = RUN,
    callbacks: Sequence[Callback] = (),
    data: TokenShards | None = None,
    **changes: object,
) -> Trainer:
    """A run in `folder`/out of a model that `changes` changes; the same for every call."""
    torch.manual_seed(1)
    return Trainer(
        CausalLM(tiny_config(**{"context_length": 16, "num_layers": 1, **changes})),  # type: ignore[arg-type]
        data or tiny_shards(folder / "data"),
        settings,
        folder / "out",
        valid=tiny_shards(folder / "valid", seed=1),
        callbacks=callbacks,
    )


def contents(checkpoint: Path) -> dict[str, bytes]:
    """Weights, optimizer averages and random generators, byte for byte."""
    names = ("model.safetensors", "state/optimizer.safetensors", "state/rng.safetensors")
    return {name: (checkpoint / name).read_bytes() for name in names}


def metrics(out: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without timings."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key not in _TIMINGS} for line in lines]
