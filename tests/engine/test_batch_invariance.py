"""Batch-invariant mode: a row's tokens and scores, bit for bit, whatever stands beside it."""

import random
from functools import cache
from typing import Any

import pytest
import torch

from tests.engine.test_generation import random_prompts
from tests.engine.tiny_models import tiny_model
from weldlm.batch_limits import BatchLimits
from weldlm.completion import Completion
from weldlm.generation import complete
from weldlm.memory import cache_bytes
from weldlm.prompt import Prompt
from weldlm.sampling_settings import SamplingSettings

LENGTHS = (7, 1, 30, 3, 12, 25, 18)
SETTINGS = SamplingSettings(max_tokens=12, temperature=1.3, top_p=0.97, seed=3, logprobs=4)
NAMES = pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny", "gemma2-2b"])


def completed(
    name: str, order: tuple[int, ...] = tuple(range(len(LENGTHS))), **limits: Any
) -> dict[int, Completion]:
    model, prompts = tiny_model(name), random_prompts(*LENGTHS)
    num_blocks = limits.pop("num_blocks", None)
    limits = {"block_size": 4, "max_length": 42, **limits}
    if num_blocks is not None:
        limits["cache_bytes"] = num_blocks * cache_bytes(model.config, 4, dtype=torch.float32)
    rows = [Prompt(row, prompts[row]) for row in order]
    return dict(complete(model, None, rows, SETTINGS, limits=BatchLimits(**limits)))


@cache
def alone(name: str) -> dict[int, Completion]:
    return completed(name, batch_size=1, shares_prefixes=False)


@NAMES
@pytest.mark.parametrize("batch_size", [2, 3, 7])
def test_rows_in_a_batch_equal_rows_alone(name: str, batch_size: int) -> None:
    assert completed(name, batch_size=batch_size) == alone(name)


@NAMES
@pytest.mark.parametrize("seed", [1, 2])
def test_rows_in_another_order_equal_rows_alone(name: str, seed: int) -> None:
    order = list(range(len(LENGTHS)))
    random.Random(seed).shuffle(order)

    assert completed(name, tuple(order), batch_size=3) == alone(name)


CHUNKED = {
    "chunks-of-1": {"prefill_chunk": 1},
    "chunks-of-16": {"prefill_chunk": 16},
    "small-batches": {"max_batch_tokens": 9},
    "preempted": {"num_blocks": 11},
    "preempted-in-chunks": {"num_blocks": 16, "prefill_chunk": 5},
}


@NAMES
@pytest.mark.parametrize("limits", CHUNKED.values(), ids=CHUNKED.keys())
def test_rows_in_chunks_equal_rows_alone(name: str, limits: dict[str, int]) -> None:
    assert completed(name, batch_size=7, **limits) == alone(name)


@NAMES
def test_rows_behind_a_prefix_of_others_equal_rows_alone(name: str) -> None:
    model, (prefix, *ends) = tiny_model(name), random_prompts(19, 3, 8, 1, 3)
    prompts = [Prompt(row, [*prefix, *end]) for row, end in enumerate(ends)]
    sizes = {"block_size": 4, "max_length": 42}
    apart = BatchLimits(**sizes, batch_size=4, shares_prefixes=False)
    shared = BatchLimits(**sizes, batch_size=2)

    expected = dict(complete(model, None, prompts, SETTINGS, limits=apart))

    assert dict(complete(model, None, prompts, SETTINGS, limits=shared)) == expected


def test_rows_without_packed_weights_equal_rows_alone() -> None:
    limits = {"packs_weights": False, "shares_prefixes": False}

    expected = completed("gpt2-tiny", batch_size=1, **limits)

    assert completed("gpt2-tiny", batch_size=7, **limits) == expected
    assert completed("gpt2-tiny", batch_size=3, num_blocks=11, **limits) == expected


@pytest.mark.slow
@pytest.mark.parametrize("cache_dtype", ["auto", "int8"])
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("gpt2-tiny", {"hidden_size": 768, "num_heads": 12, "intermediate_size": 3072}),
        ("llama-tiny", {"hidden_size": 576, "num_heads": 9, "intermediate_size": 1536}),
    ],
    ids=["gpt2", "llama"],
)
def test_long_rows_of_wide_models_equal_rows_alone(
    name: str, sizes: dict[str, int], cache_dtype: str
) -> None:
    heads = {"num_kv_heads": 3 if name == "llama-tiny" else 12, "head_dim": 64}
    model = tiny_model(name, context_length=700, vocab_size=5_000, **sizes, **heads)
    prompts = [Prompt(row, ids) for row, ids in enumerate(random_prompts(300, 5, 611, 128, 257))]
    settings = SamplingSettings(max_tokens=24, temperature=1.0, logprobs=2)

    def run(**limits: Any) -> dict[int, Completion]:
        options = BatchLimits(**{"cache_dtype": cache_dtype, "max_length": 640, **limits})
        return dict(complete(model, None, prompts, settings, limits=options))

    expected = run(batch_size=1, shares_prefixes=False)
    bytes_of_block = cache_bytes(
        model.config, 16, dtype=torch.int8 if cache_dtype == "int8" else torch.float32
    )

    assert run(batch_size=5) == expected
    assert run(batch_size=5, prefill_chunk=16) == expected
    assert run(batch_size=5, max_batch_tokens=100, cache_bytes=42 * bytes_of_block) == expected
