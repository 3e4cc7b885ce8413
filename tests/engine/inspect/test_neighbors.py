"""Neighbors by cosine against numpy."""

import numpy as np
import pytest
import torch

from weldlm.inspect import nearest_tokens


def test_neighbors_are_in_the_order_of_cosines() -> None:
    table = torch.randn(150, 8, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(100)  # more rows than are compared at once

    found, cosines = nearest_tokens(table, ids, top_k=5)

    rows = table.double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = rows[:100] @ rows.T
    likeness[np.arange(100), np.arange(100)] = -np.inf
    order = np.argsort(-likeness, axis=1)[:, :5]
    np.testing.assert_array_equal(found.numpy(), order)
    np.testing.assert_allclose(cosines, np.take_along_axis(likeness, order, axis=1), atol=1e-6)


def test_a_small_table_has_few_neighbors() -> None:
    found, cosines = nearest_tokens(torch.tensor([[1.0, 0], [3, 4], [0, -2]]), torch.tensor([1]))

    assert found.tolist() == [[0, 2]]
    np.testing.assert_allclose(cosines, [[0.6, -0.8]], atol=1e-6)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="ids has 3; expected 0 to 2"):
        nearest_tokens(torch.eye(3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="top_k is 0; expected at least 1"):
        nearest_tokens(torch.eye(3), torch.tensor([0]), top_k=0)
