"""PackedLinears: the products of torch, and bits of a row that do not depend on the others."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from tests.engine.tiny_models import tiny_model
from tests.tolerance import assert_within_tolerance
from weldlm.adapters import LoraSettings, add_lora
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


@torch.inference_mode()
def test_a_layer_with_an_adapter_is_packed_and_rows_keep_their_bits() -> None:
    model = tiny_model()
    add_lora(model, LoraSettings(rank=4))
    for name, weight in model.named_parameters():
        if name.endswith(".up"):
            weight.add_(0.1)
    rows = [[row, row + 1, row + 2] for row in range(20)]
    plain = model.logits(PackedBatch.from_sequences(rows))

    with PackedLinears(model):
        together = model.logits(PackedBatch.from_sequences(rows))
        alone = [model.logits(PackedBatch.from_sequences(rows[:n])) for n in (1, 2, 3, 7)]

    torch.testing.assert_close(together, plain, rtol=0, atol=1e-5)
    assert [
        n for n, y in zip((1, 2, 3, 7), alone, strict=True) if not torch.equal(y, together[: 3 * n])
    ] == []
    assert not torch.equal(together, plain)


def test_a_model_is_as_it_was_behind_the_last_block() -> None:
    model = tiny_model()
    first, second = PackedLinears(model), PackedLinears(model)

    with first, second:
        pass
    with first:
        inside = [name for name, module in model.named_modules() if "forward" in vars(module)]

    assert inside == [name for name, module in model.named_modules() if type(module) is nn.Linear]
    assert not any({"forward", "scores"} & vars(module).keys() for module in model.modules())


@torch.inference_mode()
def test_no_mode_watches_what_is_no_product() -> None:
    """It would cost a Python call for each method of each tensor."""
    model, depths = tiny_model(), []
    model.transformer.register_forward_hook(
        lambda *_: depths.append(torch._C._len_torch_function_stack())
    )

    with PackedLinears(model):
        model.logits(PackedBatch.from_sequences([[1, 2, 3]]))

    assert depths == [0]


def test_models_in_half_precision_are_left_alone() -> None:
    assert PackedLinears.takes(tiny_model())
    assert not PackedLinears.takes(tiny_model().bfloat16())
