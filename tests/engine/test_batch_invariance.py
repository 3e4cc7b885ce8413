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
NAMES = pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])


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
def test_tokens_in_chunks_equal_tokens_alone(name: str, limits: dict[str, int]) -> None:
    found = completed(name, batch_size=7, **limits)

    assert {row: one.ids for row, one in found.items()} == {
        row: one.ids for row, one in alone(name).items()
    }
