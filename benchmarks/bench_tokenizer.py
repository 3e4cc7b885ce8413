"""The tokenizer beside every library that reads the same vocabulary.

    python -m benchmarks.report --only tokenizer
    python -m pytest benchmarks/bench_tokenizer.py --benchmark-enable

WELDLM_TEST_DATA and WELDLM_VOCABULARIES name the folders of the vocabularies. The first has ratios
of all families: long texts, a short one, loading. The second has GPT-2 alone, with long pieces and
decoding. Ids and merges are verified equal before anything is timed. Word caches are warm: the
texts are encoded once for the check. All return lists.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import tokenizers
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.compare import Comparison
from benchmarks.tokenizer_peers import Family, families
from tests.engine.pattern_texts import multilingual_text
from tests.engine.tokenizer_oracles import (
    bpe_of_tokenizers,
    gpt2,
    gpt2_of_tiktoken,
    gpt2_of_tokenizers,
    merges_of,
    needs_gpt2,
    standard_library_texts,
)
from weldlm.tokenizer import Tokenizer

__all__ = ["comparisons"]

Encode = Callable[[str], list[int]]

NUM_THREADS = 2
TEXTS = standard_library_texts(200)
SAMPLES = {
    "code": "".join(TEXTS)[:200_000],
    "every script": multilingual_text()[:60_000],
    "short": "The quick brown fox jumps over it.",
}
READ_FROM_THE_START = ("cl100k_base", "llama3")  # of the families: these take longest
# no white space: tiktoken 0.14 panics on a run of a million
LONG_PIECES = {
    "one-letter": "a" * 1_000_000,
    "alphabet": "abcdefghijklmnopqrstuvwxyz" * 38_000,
    "signs": "=" * 1_000_000,
}

ENCODERS: dict[str, Callable[[], Encode]] = {
    "weldlm": lambda: gpt2().encode_ordinary,
    "tiktoken": lambda: gpt2_of_tiktoken().encode_ordinary,
    "tokenizers": lambda: lambda text: gpt2_of_tokenizers().encode(text).ids,
}
BATCH_ENCODERS: dict[str, Callable[[list[str]], object]] = {
    "weldlm": lambda texts: gpt2().encode_batch(
        texts, num_threads=NUM_THREADS, disallowed_special=()
    ),
    "tiktoken": lambda texts: gpt2_of_tiktoken().encode_ordinary_batch(
        texts, num_threads=NUM_THREADS
    ),
    "tokenizers": lambda texts: gpt2_of_tokenizers().encode_batch_fast(texts),
}
DECODERS: dict[str, Callable[[], Callable[[list[int]], str]]] = {
    "weldlm": lambda: gpt2().decode,
    "tiktoken": lambda: gpt2_of_tiktoken().decode,
    "tokenizers": lambda: gpt2_of_tokenizers().decode,
}


def mark_size(benchmark: BenchmarkFixture, num_bytes: int) -> None:
    benchmark.extra_info["megabytes"] = num_bytes / 1e6


@needs_gpt2
@pytest.mark.parametrize("peer", ENCODERS)
@pytest.mark.benchmark(group="encode one text to a list")
def test_encode(benchmark: BenchmarkFixture, peer: str) -> None:
    text = "".join(TEXTS)[:1_000_000]
    encode = ENCODERS[peer]()
    assert encode(text) == gpt2_of_tiktoken().encode_ordinary(text)
    mark_size(benchmark, len(text.encode()))

    benchmark(encode, text)


@needs_gpt2
@pytest.mark.parametrize("peer", BATCH_ENCODERS)
@pytest.mark.benchmark(group=f"encode a batch on {NUM_THREADS} threads")
def test_encode_batch(benchmark: BenchmarkFixture, peer: str) -> None:
    batch = gpt2().encode_batch(TEXTS, disallowed_special=())
    expected = gpt2_of_tiktoken().encode_ordinary_batch(TEXTS)
    assert [ids.tolist() for ids in batch] == expected
    mark_size(benchmark, sum(len(text.encode()) for text in TEXTS))

    benchmark(BATCH_ENCODERS[peer], TEXTS)


@needs_gpt2
@pytest.mark.parametrize("peer", ENCODERS)
@pytest.mark.parametrize("piece", LONG_PIECES)
def test_long_piece(benchmark: BenchmarkFixture, piece: str, peer: str) -> None:
    text = LONG_PIECES[piece]
    encode = ENCODERS[peer]()
    assert encode(text) == gpt2_of_tiktoken().encode_ordinary(text)
    benchmark.group = f"1 MB without a boundary: {piece}"
    mark_size(benchmark, len(text))

    benchmark(encode, text)


@needs_gpt2
@pytest.mark.benchmark(group="decode to text")
@pytest.mark.parametrize("peer", DECODERS)
def test_decode(benchmark: BenchmarkFixture, peer: str) -> None:
    text = "".join(TEXTS)[:1_000_000]
    ids = gpt2().encode_ordinary(text)
    decode = DECODERS[peer]()
    assert decode(ids) == text
    mark_size(benchmark, len(text.encode()))

    benchmark(decode, ids)


def train_weldlm() -> list[list[int]]:
    return merges_of(Tokenizer.train(TEXTS, 4096, num_threads=NUM_THREADS).parts)


def train_tokenizers() -> list[list[int]]:
    tokenizer = bpe_of_tokenizers()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    ids = model["vocab"]
    return [[ids[left], ids[right], ids[left + right]] for left, right in model["merges"]]


def comparisons() -> Iterator[Comparison]:
    """Learning and batches with a vocabulary learned here; then every family that is present."""
    yield from trained_comparisons()
    for family in families():
        yield from family_comparisons(family)


def family_comparisons(family: Family) -> Iterator[Comparison]:
    """Ours against each peer that gives the same ids; another is named and left out."""
    ours = Tokenizer.from_file(family.path).encode_ordinary
    for peer in family.peers:
        theirs = peer.load()
        # each row takes seconds: the long text of every script is for the oracle alone
        for name, text in SAMPLES.items():
            if name == "every script" and peer is not family.peers[0]:
                continue
            if theirs(text) != ours(text):
                print(f"{family.name}: {peer.name} has other ids for the {name} text", flush=True)
                continue
            yield Comparison(
                f"{family.name}: encode {name}, {len(text.encode()):,} bytes, to a list, warm",
                peer.name,
                partial(ours, text),
                partial(theirs, text),
            )
    yield Comparison(
        f"{family.name}: load, compiled by an earlier run",
        family.peers[0].name,
        partial(Tokenizer.from_file, family.path),
        family.peers[0].load,
    )
    if family.name in READ_FROM_THE_START:
        yield Comparison(
            f"{family.name}: load, the first time",
            family.peers[0].name,
            partial(Tokenizer.from_file, family.path, use_cache=False),
            family.peers[0].load,
        )


def trained_comparisons() -> Iterator[Comparison]:
    """Those that need no file."""
    megabytes = sum(len(text.encode()) for text in TEXTS) / 1e6
    assert train_weldlm() == train_tokenizers()
    yield Comparison(
        f"BPE training, vocabulary 4,096, {megabytes:.1f} MB of Python source",
        "tokenizers BpeTrainer",
        train_weldlm,
        train_tokenizers,
    )
    ours, theirs = learned_by_both()
    batch = ours.encode_batch(TEXTS, disallowed_special=())
    assert [ids.tolist() for ids in batch] == [e.ids for e in theirs.encode_batch_fast(TEXTS)]
    yield Comparison(
        f"encode a batch of {len(TEXTS)} files, {NUM_THREADS} threads, warm",
        "tokenizers encode_batch_fast",
        partial(ours.encode_batch, TEXTS, num_threads=NUM_THREADS, disallowed_special=()),
        partial(theirs.encode_batch_fast, TEXTS),
    )


def learned_by_both() -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """Our tokenizer, and the peer that reads its file."""
    ours = Tokenizer.train(TEXTS, 4096)
    with tempfile.TemporaryDirectory() as folder:
        ours.save(f"{folder}/tokenizer.json")
        return ours, tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")


@pytest.mark.parametrize("train", [train_weldlm, train_tokenizers])
@pytest.mark.benchmark(group="train a vocabulary of 4096")
def test_train(benchmark: BenchmarkFixture, train: Callable[[], list[list[int]]]) -> None:
    assert train_weldlm() == train_tokenizers()
    mark_size(benchmark, sum(len(text.encode()) for text in TEXTS))

    benchmark(train)
