"""Materialized probabilities: their product with the values is what attention gives."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from weldlm_kernels import attention, attention_probabilities

OPTIONS: dict[str, dict[str, Any]] = {
    "full": {"is_causal": False},
    "causal": {"is_causal": True},
    "window": {"is_causal": True, "window": 3},
    "local": {"is_causal": False, "window": 4, "scale": 0.3},
    "softcap": {"is_causal": True, "softcap": 0.7},
    "alibi": {"is_causal": True, "alibi_slopes": torch.tensor([0.5, 0.25, 0.1, 0.02])},
    "relative": {
        "is_causal": False,
        "relative_bias": torch.linspace(-1, 1, 32).view(8, 4),
        "relative_bias_max_distance": 12,
        "relative_bias_is_bidirectional": True,
    },
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("k_lengths", [(9, 1, 17), (12, 3, 20)], ids=["self", "more-keys"])
def test_values_weighed_by_them_are_the_output(name: str, k_lengths: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    q_offsets, k_offsets = (
        torch.tensor([0, *lengths]).cumsum(0).int() for lengths in ((9, 1, 17), k_lengths)
    )
    q = torch.randn(27, 4, 16, generator=generator)
    k, v = torch.randn(2, int(k_offsets[-1]), 2, 16, generator=generator)
    offsets = {"q_offsets": q_offsets, "k_offsets": k_offsets}

    maps = attention_probabilities(q, k, **offsets, **OPTIONS[name])

    lengths = {"q_max_length": 17, "k_max_length": max(k_lengths)}
    out, _ = attention(q, k, v, **offsets, **lengths, **OPTIONS[name])
    spans = [slice(*span) for span in pairwise(k_offsets.tolist())]
    weighed = [
        torch.einsum("h t s, s h d -> t h d", part, v[span].repeat_interleave(2, dim=1))
        for part, span in zip(maps, spans, strict=True)
    ]
    torch.testing.assert_close(torch.cat(weighed), out, rtol=1e-5, atol=1e-5)
    for part in maps:
        torch.testing.assert_close(part.sum(dim=-1), torch.ones(part.shape[:2]))


def test_a_query_without_a_visible_key_has_zeros() -> None:
    q, k = torch.ones(3, 1, 4), torch.ones(1, 1, 4)
    offsets = {"q_offsets": torch.tensor([0, 3]), "k_offsets": torch.tensor([0, 1])}

    (found,) = attention_probabilities(q, k, **offsets, is_causal=True)

    assert found.squeeze().tolist() == [0.0, 0.0, 1.0]


def test_sixteen_bits_are_raised_to_fp32() -> None:
    q = torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    offsets = {"q_offsets": torch.tensor([0, 5]), "k_offsets": torch.tensor([0, 5])}

    (found,) = attention_probabilities(q, q, **offsets, is_causal=False)

    exact = torch.einsum("t h d, s h d -> h t s", q.double(), q.double()) * 8**-0.5
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.softmax(dim=-1).float(), rtol=1e-6, atol=1e-6)
