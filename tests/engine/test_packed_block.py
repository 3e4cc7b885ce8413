"""A packed block in one call: the bits of its operations one by one, wherever it applies."""

import copy
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_model
from weldlm import LoraSettings, add_lora
from weldlm.cache import KVCache
from weldlm.heads import CausalLM
from weldlm.layers import Block
from weldlm.layers.packed_block import PackedBlock
from weldlm.packing import PackedBatch
from weldlm.quantization import pack_model, quantize_model
from weldlm_kernels import _cpu, use_backend

WIDE = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
LENGTHS = (9, 1, 17)


@pytest.fixture(params=_cpu.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    previous = _cpu.instruction_set()
    _cpu.force_instruction_set(request.param)
    yield request.param
    _cpu.force_instruction_set(previous)


def packed(name: str, weight_format: str, **changes: object) -> CausalLM:
    model = tiny_model(name, **{**WIDE, **changes})
    if weight_format == "fp32":
        pack_model(model)
    else:
        quantize_model(model, weight_format)  # type: ignore[arg-type]
    return model


@torch.inference_mode()
def generated(model: CausalLM, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Scores after three prompts, and after two more tokens of each; keys and values at the end."""
    cache = KVCache(model.config, 12, 16, dtype=dtype, device=torch.device("cpu"))
    cache._blocks.zero_()
    tables = torch.arange(12, dtype=torch.int32).view(3, 4).numpy()
    starts, scores = [0, 0, 0], []
    for counts in (LENGTHS, (1, 1, 1), (1, 1, 1)):
        ids = torch.arange(sum(counts)).mul(7).remainder(97)
        positions = torch.cat([torch.arange(s, s + c) for s, c in zip(starts, counts, strict=True)])
        offsets = torch.tensor([0, *torch.tensor(counts).cumsum(0)], dtype=torch.int32)
        batch = PackedBatch(ids, offsets, positions, max(counts))
        step = cache.step(tables, starts, counts, rows_are_independent=True)
        scores.append(model.logits(batch, step))
        starts = [start + count for start, count in zip(starts, counts, strict=True)]
    return [*scores, cache._blocks]


def one_by_one(model: CausalLM, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    with mock.patch.object(PackedBlock, "run", return_value=None) as run:
        found = generated(model, dtype)
    assert run.call_count == 3 * model.config.num_layers
    return found


def assert_same_bits(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def takes_one_call(model: CausalLM) -> bool:
    with mock.patch.object(Block, "_pre_norm", side_effect=InterruptedError) as long_way:
        try:
            generated(model)
        except InterruptedError:
            assert long_way.call_count == 1
    return long_way.call_count == 0


def small_cache(model: CausalLM) -> KVCache:
    return KVCache(model.config, 4, 16, dtype=torch.float32, device=torch.device("cpu"))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("weight_format", ["fp32", "int8", "int4"])
@pytest.mark.parametrize(
    ("name", "changes"),
    [("gpt2-tiny", {}), ("llama-tiny", {"num_kv_heads": 2}), ("llama-tiny", {"window": 8})],
    ids=["gpt2", "llama", "window"],
)
def test_one_call_has_the_bits_of_many(
    name: str, changes: dict[str, object], weight_format: str
) -> None:
    model = packed(name, weight_format, **changes)

    assert takes_one_call(model)
    assert_same_bits(generated(model), one_by_one(model))


def test_cache_of_8_bits_is_written_and_read() -> None:
    model = packed("llama-tiny", "int8")

    assert_same_bits(generated(model, torch.int8), one_by_one(model, torch.int8))


def test_a_reference_that_is_forced_is_taken() -> None:
    model = packed("gpt2-tiny", "int8")

    with use_backend("reference"):
        assert not takes_one_call(model)


def test_plain_layers_go_the_long_way() -> None:
    assert not takes_one_call(tiny_model(**WIDE))


def test_gradients_go_the_long_way() -> None:
    model = packed("gpt2-tiny", "fp32")
    cache = small_cache(model)
    step = cache.step(torch.zeros(1, 4, dtype=torch.int32).numpy(), [0], [3])

    with (
        mock.patch.object(Block, "_pre_norm", side_effect=InterruptedError),
        pytest.raises(InterruptedError),
    ):
        model.logits(PackedBatch.from_sequences([[1, 2, 3]]), step)


def test_a_layer_that_is_replaced_takes_part() -> None:
    model = packed("gpt2-tiny", "int8")
    before = generated(model)

    add_lora(model, LoraSettings(rank=4))
    for name, weight in model.named_parameters():
        if name.endswith(".up"):
            weight.data.normal_(std=0.1)

    assert not takes_one_call(model)
    assert (generated(model)[0] - before[0]).abs().max() > 0.01


def test_a_norm_that_changes_takes_part() -> None:
    model = packed("gpt2-tiny", "int8")
    generated(model)

    with torch.no_grad():
        model.transformer.blocks[1].mlp_norm.weight = torch.nn.Parameter(torch.full((64,), 0.5))

    assert_same_bits(generated(model), one_by_one(model))


def test_a_copy_has_its_own_weights() -> None:
    model = packed("llama-tiny", "int4")
    expected = generated(model)

    copied = copy.deepcopy(model)
    del model

    assert_same_bits(generated(copied), expected)


def test_an_unknown_position_is_refused_by_name() -> None:
    model = packed("llama-tiny", "int8")
    cache = small_cache(model)
    step = cache.step(torch.zeros(1, 4, dtype=torch.int32).numpy(), [0], [1])
    batch = PackedBatch(
        torch.tensor([1]), torch.tensor([0, 1], dtype=torch.int32), torch.tensor([64]), 1
    )

    with torch.inference_mode(), pytest.raises(ValueError, match="has the position 64; expected 0"):
        model.logits(batch, step)
