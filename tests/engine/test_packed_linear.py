"""PackedLinears: the products of torch, and bits of a row that do not depend on the others."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from tests.engine.tiny_models import tiny_model
from tests.tolerance import assert_within_tolerance
from weldlm.packed_linear import PackedLinears
from weldlm.packing import PackedBatch

SHAPES = pytest.mark.parametrize(
    ("width", "out"), [(8, 16), (17, 33), (64, 192), (768, 96), (1536, 64)]
)
NUM_ROWS = [1, 2, 3, 4, 5, 7, 8, 11, 16, 31, 64, 129, 500]


def layer(width: int, out: int) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(width, out).eval()


@SHAPES
@torch.inference_mode()
def test_products_are_those_of_torch(width: int, out: int) -> None:
    module, x = layer(width, out), torch.randn(37, width)

    with PackedLinears(module):
        y = module(x)

    exact = linear(x.double(), module.weight.double(), module.bias.double())
    assert_within_tolerance("linear", y, module(x), exact, floor=4)


@SHAPES
@torch.inference_mode()
def test_a_row_has_the_same_bits_among_any_number(width: int, out: int) -> None:
    module, x = layer(width, out), torch.randn(520, width)

    with PackedLinears(module):
        whole = module(x)
        parts = {count: module(x[7 : 7 + count]) for count in NUM_ROWS}

    assert [n for n, y in parts.items() if not torch.equal(y, whole[7 : 7 + n])] == []


@torch.inference_mode()
def test_other_products_are_torchs_own() -> None:
    module, x = layer(8, 16), torch.randn(3, 8)
    other = torch.randn(16, 8)

    with PackedLinears(module):
        y = linear(x, other)

    assert torch.equal(y, linear(x, other))


@torch.inference_mode()
def test_a_head_that_is_the_embedding_is_packed_and_looked_up() -> None:
    model = tiny_model("gpt2-tiny")
    batch = PackedBatch.from_sequences([[1, 2, 3], [4]])

    with PackedLinears(model):
        logits = model.logits(batch)

    assert model.config.tie_embeddings
    torch.testing.assert_close(logits, model.logits(batch), rtol=0, atol=1e-5)


def test_models_in_half_precision_are_left_alone() -> None:
    assert PackedLinears.takes(tiny_model())
    assert not PackedLinears.takes(tiny_model().bfloat16())
