"""Making batches for masked language modeling and span corruption, against plain collators.

python -m pytest benchmarks/bench_collation.py --benchmark-enable
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.compare import Comparison
from weldlm.objectives import IGNORED, MaskedLMObjective, SpanCorruptionObjective
from weldlm.packing import PackedBatch

__all__ = ["comparisons"]

NUM_SAMPLES, LENGTH = 64, 128
WORDS = 2_000
SPANS = SpanCorruptionObjective(vocab_size=32_128, first_sentinel=32_099, eos_id=1, start_id=0)
Side = Callable[[], object]


@cache
def tokenizer() -> Any:
    """A BERT tokenizer of transformers over made-up words."""
    import transformers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {token: index for index, token in enumerate([*special, *map(str, range(WORDS))])}
    return transformers.BertTokenizer(vocab=words)


@cache
def samples() -> list[npt.NDArray[np.int64]]:
    draws = np.random.default_rng(0)
    return [draws.integers(5, WORDS, LENGTH) for _ in range(NUM_SAMPLES)]


def packed() -> PackedBatch:
    """What the loader hands over: the shards' tokens as they lie."""
    return PackedBatch.from_lengths(
        torch.from_numpy(np.concatenate(samples())), [LENGTH] * NUM_SAMPLES
    )


def masked_sides() -> dict[str, Side]:
    import transformers

    objective = MaskedLMObjective(
        vocab_size=len(tokenizer()),
        mask_id=tokenizer().mask_token_id,
        special_ids=tokenizer().all_special_ids,
    )
    collator = transformers.DataCollatorForLanguageModeling(tokenizer(), mlm_probability=0.15)
    rows = [{"input_ids": sample.tolist()} for sample in samples()]
    sides = {
        "weldlm": lambda: objective(packed(), np.arange(NUM_SAMPLES)),
        "transformers": lambda: collator(rows),
    }
    _check_masked(objective(packed(), np.arange(NUM_SAMPLES))[1], collator(rows)["labels"])
    return sides


def span_sides() -> dict[str, Side]:
    sides = {
        "weldlm": lambda: SPANS(packed(), np.arange(NUM_SAMPLES)),
        "numpy": lambda: [numpy_corrupt(s, np.random.default_rng(0)) for s in samples()],
    }
    encoder, _, labels = SPANS(packed(), np.arange(NUM_SAMPLES))
    source, target = numpy_corrupt(samples()[0], np.random.default_rng(0))
    assert (encoder.num_tokens, len(labels)) == (
        len(source) * NUM_SAMPLES,
        len(target) * NUM_SAMPLES,
    )
    return sides


def numpy_corrupt(
    ids: npt.NDArray[np.int64], draws: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Span corruption of one sample with vectors of numpy, as T5's preprocessing defines it."""
    num_noise = round(len(ids) * SPANS.share)
    num_spans = round(num_noise / SPANS.mean_span)
    noise, kept = (_random_parts(n, num_spans, draws) for n in (num_noise, len(ids) - num_noise))
    lengths = np.stack([kept, noise], axis=1).ravel()
    is_noise = np.repeat(np.arange(2 * num_spans) % 2 == 1, lengths)
    return _with_sentinels(ids, is_noise), _with_sentinels(ids, ~is_noise)


def _random_parts(length: int, count: int, draws: np.random.Generator) -> npt.NDArray[np.int64]:
    cuts = np.arange(length - 1) < count - 1
    draws.shuffle(cuts)
    return np.bincount(np.cumsum(np.concatenate([[False], cuts])), minlength=count)


def _with_sentinels(
    ids: npt.NDArray[np.int64], is_hidden: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    begins = is_hidden & ~np.concatenate([[False], is_hidden[:-1]])
    marked = np.where(begins, SPANS.first_sentinel - np.cumsum(begins) + 1, ids)
    return np.concatenate([marked[begins | ~is_hidden], [SPANS.eos_id]])


def _check_masked(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """The choices are random, so only how many are chosen can agree."""
    shares = [float((labels != IGNORED).float().mean()) for labels in (ours, theirs)]
    assert max(shares) - min(shares) < 0.02, shares


def comparisons() -> Iterator[Comparison]:
    size = f"{NUM_SAMPLES} samples of {LENGTH} tokens"
    masked, spans = masked_sides(), span_sides()
    yield Comparison(
        f"masked-LM batch, {size}",
        "DataCollatorForLanguageModeling",
        masked["weldlm"],
        masked["transformers"],
    )
    yield Comparison(f"span-corruption batch, {size}", "numpy", spans["weldlm"], spans["numpy"])


@pytest.mark.parametrize("side", ["weldlm", "transformers"])
def test_masked_lm(benchmark: BenchmarkFixture, side: str) -> None:
    benchmark(masked_sides()[side])


@pytest.mark.parametrize("side", ["weldlm", "numpy"])
def test_span_corruption(benchmark: BenchmarkFixture, side: str) -> None:
    benchmark(span_sides()[side])
