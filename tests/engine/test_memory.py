"""Estimates are below what torch takes, and what cannot run is refused in one line."""

from typing import Any

import pytest
import torch
from torch.profiler import profile

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm import memory
from weldlm.adapters import LoraSettings, add_lora, quantize_base
from weldlm.cache import KVCache
from weldlm.config import PRESETS
from weldlm.ema import Ema
from weldlm.heads import CausalLM
from weldlm.memory import (
    WeightCount,
    cache_bytes,
    require_cache_memory,
    require_memory,
    require_table_memory,
    require_training_memory,
    saved_bytes,
    table_bytes,
    training_bytes,
)
from weldlm.optim import build_optimizer
from weldlm.packing import PackedBatch
from weldlm.train_settings import OptimizerName, TrainSettings
from weldlm.transformer import set_activation_checkpointing

GIB = 1 << 30
SETTINGS = TrainSettings(steps=1)


@pytest.fixture(name="two_gib")
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _device: 2 * GIB)


def bytes_kept_for_backward(model: CausalLM, batch: PackedBatch, dtype: torch.dtype) -> int:
    """Every storage once, without weights and tables."""
    own = {tensor.data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = 0 if storage.data_ptr() in own else storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16),
    ):
        loss, _ = model(batch, torch.ones_like(batch.ids))
    assert loss.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny", "qwen3-0.6b", "gemma2-2b"])
def test_backward_keeps_at_least_the_estimate(name: str, dtype: torch.dtype) -> None:
    model = tiny_model(name).train()
    batch = PackedBatch.from_sequences([torch.arange(60)] * 20)

    kept = bytes_kept_for_backward(model, batch, dtype)
    estimate = saved_bytes(model.config, batch.num_tokens, bytes_of_number=dtype.itemsize)

    assert estimate <= kept <= 6 * estimate


@pytest.mark.parametrize(("optimizer", "most"), [("muon", 1.4), ("adafactor", 1.2)])
def test_smaller_averages_take_at_least_the_estimate(optimizer: OptimizerName, most: float) -> None:
    model, settings = tiny_model(), SETTINGS.changed(optimizer=optimizer)
    weights = list(model.parameters())
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer = build_optimizer(model, settings)
    optimizer.step()

    averages = [value for state in optimizer.state.values() for value in state.values()]
    taken = sum(tensor.nbytes for tensor in [*weights, *weights, *averages])
    estimate = training_bytes(model.config, settings, 0, bytes_of_number=4)

    assert estimate <= taken <= most * estimate


def test_average_of_weights_is_counted() -> None:
    model = tiny_model()
    averages = Ema(model, 0.9).state_dict().values()

    with_average, without = (
        training_bytes(model.config, settings, 0, bytes_of_number=4)
        for settings in (SETTINGS.changed(ema_decay=0.9), SETTINGS)
    )

    assert with_average - without == sum(tensor.nbytes for tensor in averages if tensor.dim())


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
def test_backward_of_checkpointed_blocks_keeps_at_least_the_estimate(name: str) -> None:
    model = tiny_model(name, num_layers=6).train()
    set_activation_checkpointing(model, True)
    batch = PackedBatch.from_sequences([torch.arange(60)] * 20)

    with profile(profile_memory=True) as profiled:
        loss, _ = model(batch, torch.ones_like(batch.ids))
    inputs = sum(event.self_cpu_memory_usage for event in profiled.events() or ())
    one = tiny_model(name, num_layers=1).train()
    kept = inputs + bytes_kept_for_backward(one, batch, torch.float32)

    estimate = saved_bytes(
        model.config, batch.num_tokens, bytes_of_number=4, checkpoint_activations=True
    )
    assert loss.requires_grad
    assert estimate <= kept <= 6 * estimate


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
def test_weights_gradients_and_averages_take_at_least_the_estimate(name: str) -> None:
    model = tiny_model(name)
    weights = list(model.parameters())
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer = build_optimizer(model, SETTINGS)
    optimizer.step()

    averages = [value for state in optimizer.state.values() for value in state.values()]
    taken = sum(tensor.nbytes for tensor in [*weights, *weights, *averages])
    tables = sum(table.nbytes for table in model.buffers())
    estimate = training_bytes(model.config, SETTINGS, 0, bytes_of_number=4)

    assert estimate <= taken + tables <= 1.01 * estimate


@pytest.mark.parametrize("bits", [None, 4], ids=["fp32", "int4"])
def test_averages_of_frozen_weights_are_not_counted(bits: int | None) -> None:
    model = tiny_model("llama-tiny", hidden_size=128, intermediate_size=256)
    if bits is not None:
        quantize_base(model, bits=bits, group_size=32)
    add_lora(model, LoraSettings(rank=2))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.grad = torch.zeros_like(weight)
    optimizer = build_optimizer(model, SETTINGS)
    optimizer.step()

    averages = [value for state in optimizer.state.values() for value in state.values()]
    held = [*model.parameters(), *model.buffers(), *trained, *averages]
    taken = sum(tensor.nbytes for tensor in held)
    estimate = training_bytes(
        model.config, SETTINGS, 0, bytes_of_number=4, weights=WeightCount.of(model)
    )

    assert estimate <= taken <= 1.01 * estimate


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
def test_tables_take_the_estimate(name: str) -> None:
    model = tiny_model(name)

    assert sum(table.nbytes for table in model.buffers()) == table_bytes(model.config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
def test_cache_takes_the_estimate(dtype: torch.dtype) -> None:
    config = tiny_config("llama-tiny")

    cache = KVCache(config, 3, 50, dtype=dtype, device="cpu")

    assert cache.num_bytes == cache_bytes(config, 3 * 50, dtype=dtype)


REFUSED = {
    "context": ({"context_length": 10**9}, {}),
    "table": ({"context_length": 10**9, "positions": "rotary"}, {"row_length": 16}),
    "vocabulary": ({"vocab_size": 10**9}, {}),
    "width": ({"hidden_size": 10**6}, {}),
    "depth": ({"num_layers": 10**6}, {}),
    "rows": ({}, {"rows_per_step": 10**9}),
    "rows-on-the-host": ({}, {"rows_per_step": 10**6, "micro_batch_rows": 1}),
    "micro-batch": ({}, {"rows_per_step": 10**6, "micro_batch_rows": 10**6}),
}


@pytest.mark.usefixtures("two_gib")
@pytest.mark.parametrize(("model", "run"), REFUSED.values(), ids=REFUSED.keys())
def test_a_run_that_cannot_fit_is_refused_in_one_line(
    model: dict[str, Any], run: dict[str, int]
) -> None:
    config, settings = tiny_config(**model), SETTINGS.changed(**run)

    with pytest.raises(
        ValueError,
        match=r"^[^\n]+ takes at least [\d,.]+ GiB of memory; expected at most the 2.0 GiB that "
        r"are available; lower [^\n]+$",
    ):
        require_training_memory(config, settings, "cpu")


@pytest.mark.usefixtures("two_gib")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gpt2-tiny", {}),
        ("llama-tiny", {"rows_per_step": 64, "micro_batch_rows": 4}),
        ("gpt2", {"rows_per_step": 1, "row_length": 64}),
    ],
    ids=["tiny", "many-rows", "gpt2-on-short-rows"],
)
def test_a_run_that_fits_into_two_gib_is_not_refused(name: str, changes: dict[str, int]) -> None:
    require_training_memory(PRESETS[name], SETTINGS.changed(**changes), "cpu")


@pytest.mark.usefixtures("two_gib")
def test_a_cache_that_cannot_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a cache for 640,000,000 tokens .* lower"):
        require_cache_memory(tiny_config(), 10**7, 64, dtype=torch.float32, device="cpu")


@pytest.mark.usefixtures("two_gib")
def test_a_table_that_cannot_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="positions of a context_length of 1,000,000,000 takes"):
        require_table_memory(tiny_config("llama-tiny", context_length=10**9))


@pytest.mark.usefixtures("two_gib")
def test_all_that_is_available_may_be_taken() -> None:
    require_memory(2 * GIB, "it", advice="lower it")


@pytest.mark.usefixtures("two_gib")
def test_a_byte_more_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^it takes at least 2.0 GiB of memory; .*; lower it$"):
        require_memory(2 * GIB + 1, "it", advice="lower it")


def test_what_nobody_knows_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _device: None)

    require_memory(10**30, "it", advice="lower it")
