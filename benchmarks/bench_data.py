"""From a file of JSON lines to token ids on the disk: `weldlm data`, and datasets.map.

    python -m benchmarks.report --only data
    python -m pytest benchmarks/bench_data.py --benchmark-enable

Both read the sources of Python's standard library, a document a line, and encode them with GPT-2's
vocabulary, which WELDLM_TEST_DATA has. Ours works on all cores, keeps what it does for a run that
goes on, looks for duplicates, and hashes what it writes. Theirs is `Dataset.map` in batches with
the tokenizer of the library tokenizers, in one process and one thread. Both start with nothing on
the disk; the words of the texts are known to both. Aim: 20 times the text. Lengths in ids are
verified equal before anything is timed.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.compare import Comparison
from tests.engine.tokenizer_oracles import gpt2, gpt2_of_tokenizers, needs_gpt2
from weldlm.data import TokenShards
from weldlm.data.cleaning import CleanSettings
from weldlm.data.corpus import standard_library
from weldlm.data.pipeline import DataSettings, prepare_data

__all__ = ["comparisons"]

Side = Callable[[], list[int]]

AS_IT_IS = CleanSettings(keep_control_characters=True, normalization="none")
SETTINGS = DataSettings(held_out=0.0, frame=False, cleaning=AS_IT_IS)
BATCH_SIZE = 1_000  # of `Dataset.map`, which is its default


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Lives as long as the process."""
    return tempfile.TemporaryDirectory(prefix="weldlm-data-")


@cache
def rows() -> Path:
    """A file with every text once."""
    path = Path(folder().name, "rows.jsonl")
    texts = dict.fromkeys(document.text for document in standard_library())
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def ours() -> Side:
    path, numbers = rows(), count()

    def make() -> list[int]:
        out = Path(folder().name, f"corpus-{next(numbers)}")
        prepare_data([path], out, SETTINGS, tokenizer=gpt2())
        return list(TokenShards.open(out / "train").lengths.tolist())

    return make


def theirs() -> Side:
    import datasets

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    datasets.disable_progress_bars()
    path, numbers, tokenizer = rows(), count(), gpt2_of_tokenizers()

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [found.ids for found in tokenizer.encode_batch_fast(batch["text"])]}

    def make() -> list[int]:
        cache_dir = Path(folder().name, f"cache-{next(numbers)}")
        texts = datasets.Dataset.from_json(str(path), cache_dir=str(cache_dir))
        ids = texts.map(encode, batched=True, batch_size=BATCH_SIZE, remove_columns=["text"])
        offsets = ids.data.column("ids").combine_chunks().offsets.to_numpy()
        return list(np.diff(offsets).tolist())

    return make


def comparisons() -> Iterator[Comparison]:
    if needs_gpt2.args[0]:
        return
    try:
        peer = theirs()
    except ImportError:
        return
    make = ours()
    assert make() == peer()
    megabytes = rows().stat().st_size / 1e6
    work = f"{megabytes:.0f} MB of JSON lines to token ids on the disk"
    yield Comparison(work, "datasets.map and tokenizers, one thread", make, peer)


@needs_gpt2
@pytest.mark.parametrize("side", ["weldlm", "datasets"])
@pytest.mark.benchmark(group="JSON lines to token ids on the disk")
def test_data(benchmark: BenchmarkFixture, side: str) -> None:
    if side == "datasets":
        pytest.importorskip("datasets")
    make = ours() if side == "weldlm" else theirs()
    benchmark.extra_info["megabytes"] = rows().stat().st_size / 1e6

    assert sum(make()) > 0
    benchmark.pedantic(make, rounds=3, iterations=1)
