"""The compiled sampling draws what the reference draws, token for token."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.test_sampling import (
    MIXED,
    STRANGE,
    make_penalties,
    random_filters,
    random_logits,
    settings,
)
from weldlm_kernels import sample, use_backend
from weldlm_kernels.backend import Backend


def both(logits: Tensor, **arguments: Any) -> list[tuple[Tensor, Tensor]]:
    """What the compiled path returns and what the reference does."""
    backends: tuple[Backend, ...] = ("cpu", "reference")
    found = []
    for backend in backends:
        with use_backend(backend):
            found.append(sample(logits, **arguments))
    return found


def assert_same_tokens(logits: Tensor, **arguments: Any) -> None:
    (ids, logprobs), (expected, expected_logprobs) = both(logits, **arguments)

    assert ids.tolist() == expected.tolist()
    torch.testing.assert_close(logprobs, expected_logprobs, rtol=1e-6, atol=4e-6, equal_nan=True)


@pytest.mark.parametrize("vocab_size", [1, 2, 13, 1000, 2049])
def test_every_filter_draws_what_the_reference_draws(vocab_size: int) -> None:
    assert_same_tokens(random_logits(10, vocab_size), **MIXED)


@pytest.mark.parametrize("num_digits", [0, 1, 6])
@pytest.mark.parametrize("seed", range(4))
def test_random_filters_draw_what_the_reference_draws(seed: int, num_digits: int) -> None:
    # rounded logits have many equals
    logits = random_logits(60, 777).round(decimals=num_digits)
    draws = {"seeds": torch.arange(60) * 2**40 - 2**41, "positions": torch.arange(60) + 2**33}

    assert_same_tokens(logits, **random_filters(60, seed), **draws)


def test_without_filters_every_token_may_win() -> None:
    assert_same_tokens(random_logits(200, 50), **settings(200, temperature=3.0))


def test_far_and_hidden_tokens_draw_what_the_reference_draws() -> None:
    logits = random_logits(20, 300) * torch.logspace(-3, 3, 20).unsqueeze(1)
    logits[:, ::3] = -torch.inf

    assert_same_tokens(logits, **settings(20, temperature=1.5, top_p=0.999))


def test_rows_without_a_distribution_are_those_of_the_reference() -> None:
    assert_same_tokens(STRANGE, **settings(4, temperature=1.0, top_p=0.9, top_k=2))
    assert_same_tokens(STRANGE, **settings(4, temperature=0.0))


def test_penalized_rows_draw_what_the_reference_draws() -> None:
    arguments = settings(5, temperature=0.8, top_k=9, top_p=0.9)

    assert_same_tokens(random_logits(5, 40), **arguments, penalties=make_penalties(5))


def test_rows_may_be_strided_and_absent() -> None:
    assert_same_tokens(random_logits(10, 90)[:, ::3], **settings(10, top_k=5))
    assert_same_tokens(torch.zeros(0, 5), **settings(0))


def test_threads_do_not_change_a_token() -> None:
    logits, before, found = random_logits(10, 1000), torch.get_num_threads(), []

    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(both(logits, **MIXED)[0])
    torch.set_num_threads(before)

    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
