"""Batches of token rows in a shuffled order: ours, and datasets with torch's DataLoader.

python -m pytest benchmarks/bench_loader.py --benchmark-enable

Both read rows of 512 tokens from files that are mapped into memory, in the process that trains.
Ours also names the sequences inside each row and makes their labels. Aim: 10 times the batches.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.compare import Comparison
from weldlm.data import write_shards
from weldlm.objectives import CausalLMObjective
from weldlm.packing import PackedBatch
from weldlm.train_settings import TrainSettings
from weldlm.training_data import TokenRows

__all__ = ["comparisons"]

ROW_LENGTH, ROWS, NUM_DOCUMENTS, VOCAB_SIZE = 512, 16, 20_000, 50_257
Side = Callable[[], int]


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Lives as long as the process."""
    return tempfile.TemporaryDirectory(prefix="weldlm-loader-")


@cache
def documents() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    lengths = generator.integers(20, 800, size=NUM_DOCUMENTS)
    return [generator.integers(VOCAB_SIZE, size=length) for length in lengths]


def ours() -> Side:
    shards = write_shards(Path(folder().name, "shards"), documents(), vocab_size=VOCAB_SIZE)
    settings = TrainSettings(steps=1, rows_per_step=ROWS, row_length=ROW_LENGTH)
    data = TokenRows(shards, CausalLMObjective(), settings, 0)
    steps = itertools.count()

    def draw() -> int:
        (micro_batch,) = data.micro_batches(next(steps))
        assert isinstance(micro_batch.arguments[0], PackedBatch)
        return micro_batch.num_tokens

    return draw


def theirs() -> Side:
    import datasets
    import torch

    tokens = np.concatenate(documents())
    rows = tokens[: len(tokens) // ROW_LENGTH * ROW_LENGTH].reshape(-1, ROW_LENGTH)
    path = str(Path(folder().name, "rows"))
    datasets.Dataset.from_dict({"input_ids": list(rows)}).save_to_disk(path)
    loaded = datasets.load_from_disk(path).with_format("torch")
    loader = torch.utils.data.DataLoader(loaded, batch_size=ROWS, shuffle=True, drop_last=True)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    return lambda: next(batches)["input_ids"].numel()


def comparisons() -> Iterator[Comparison]:
    try:
        peer = theirs()
    except ImportError:
        return
    draw = ours()
    assert draw() == peer() == ROWS * ROW_LENGTH
    work = f"a batch of {ROWS} rows of {ROW_LENGTH} tokens"
    yield Comparison(work, "datasets and DataLoader", draw, peer)


@pytest.mark.parametrize("side", ["weldlm", "datasets"])
def test_loader(benchmark: BenchmarkFixture, side: str) -> None:
    if side == "datasets":
        pytest.importorskip("datasets")
    draw = ours() if side == "weldlm" else theirs()
    benchmark.group = "loader"

    assert draw() == ROWS * ROW_LENGTH
    benchmark(draw)
