"""Dropout of attention: one mask for every backend, tile and pass, as random as chance."""

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.kernels.interpreter import interpret
from tests.kernels.test_attention import Case, make_inputs, packed
from weldlm_kernels import attention, use_backend
from weldlm_kernels.attention.dropout import draws, kept
from weldlm_kernels.backend import Backend


def drawn_mask(backend: Backend, dtype: torch.dtype, seed: Tensor) -> Tensor:
    """[T, H, S]; with equal scores and a value of its own for each key, outputs are the mask."""
    q, k = torch.zeros(150, 2, 16, dtype=dtype), torch.zeros(40, 1, 16, dtype=dtype)
    case = Case((100, 50), (20, 20), is_causal=False)
    values = torch.eye(20, dtype=dtype).repeat(2, 1).unsqueeze(1)
    with interpret(), use_backend(backend):
        out, _ = attention(q, k, values, **packed(case), dropout_p=0.4, dropout_seed=seed)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_triton_draws_the_mask_of_the_reference(seed: int, dtype: torch.dtype) -> None:
    expected = drawn_mask("reference", dtype, torch.tensor([seed]))

    actual = drawn_mask("gpu", dtype, torch.tensor([seed]))

    torch.testing.assert_close(actual, expected)
    assert torch.equal(actual == 0, expected == 0)
    assert 0.3 < (expected == 0).double().mean() < 0.5


def test_what_is_kept_grows() -> None:
    out = drawn_mask("reference", torch.float64, torch.tensor(3))

    found = out.unique()

    torch.testing.assert_close(found, torch.tensor([0.0, 1 / 20 / 0.6]).double())


@pytest.mark.parametrize("dropout_p", [1e-3, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2**62 + 17])
def test_the_share_that_is_dropped_is_that_of_chance(seed: int, dropout_p: float) -> None:
    tokens = torch.arange(700)

    is_kept = kept(dropout_p, torch.tensor([seed]), 4, tokens, tokens)

    # each of the three falls outside 5 standard deviations once in two million draws
    for_all, for_rows = is_kept.double().mean(), is_kept.double().mean(2)
    deviation = (dropout_p * (1 - dropout_p)) ** 0.5
    assert abs(for_all - (1 - dropout_p)) < 5 * deviation / is_kept.numel() ** 0.5
    assert abs(for_rows.std() / (deviation / 700**0.5) - 1) < 5 / (2 * for_rows.numel()) ** 0.5
    for_keys = is_kept.double().mean(1)
    assert abs(for_keys.std() / (deviation / 700**0.5) - 1) < 5 / (2 * for_keys.numel()) ** 0.5


@pytest.mark.parametrize("dimension", [0, 1, 2], ids=["heads", "queries", "keys"])
@pytest.mark.parametrize("distance", [1, 2, 16])
def test_neighbors_are_independent(distance: int, dimension: int) -> None:
    tokens = torch.arange(300)
    values = draws(torch.tensor(5), 40, tokens, tokens).double() / 2**31 - 0.5

    products = values * values.roll(distance, dimension)

    # uniform on [-0.5, 0.5): the product of two has a standard deviation of 1 / 12
    assert abs(products.mean()) < 5 / 12 / products.numel() ** 0.5


@pytest.mark.parametrize("seeds", [(0, 1), (5, 5 + 2**32)], ids=["low-bits", "high-bits"])
def test_seeds_draw_independent_masks(seeds: tuple[int, int]) -> None:
    tokens = torch.arange(500)
    first, second = (
        draws(torch.tensor(seed), 2, tokens, tokens).double() / 2**31 - 0.5 for seed in seeds
    )

    products = first * second

    assert abs(products.mean()) < 5 / 12 / products.numel() ** 0.5


def test_activation_checkpointing_draws_the_same_mask_again() -> None:
    case = Case((9, 30))
    inputs = make_inputs(case, torch.float32)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seed = torch.randint(2**63 - 1, (1,))
        out, _ = attention(q, k, v, **packed(case), dropout_p=0.5, dropout_seed=seed)
        return out.square().sum()

    leaves, others = ([x.clone().requires_grad_() for x in inputs.values()] for _ in range(2))
    torch.manual_seed(1)
    checkpoint(attend, *leaves, use_reentrant=False).backward()
    torch.manual_seed(1)
    attend(*others).backward()

    torch.testing.assert_close([x.grad for x in leaves], [x.grad for x in others], rtol=0, atol=0)
