"""LoRA on our layers: against merged weights, on quantized bases, in training."""

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_model
from tests.tolerance import assert_within_tolerance
from weldlm.adapters import (
    LoraSettings,
    adapter_names,
    add_lora,
    dequantize_base,
    disable_adapters,
    load_trainable_state,
    merge_lora,
    num_trainable_parameters,
    quantize_base,
    remove_adapters,
    set_adapter,
    trainable_state,
    unmerge_lora,
)
from weldlm.heads import CausalLM
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained, save_pretrained

ALL = LoraSettings(rank=3, alpha=6.0, targets=("all",))
QUANTIZED = [
    pytest.param({"bits": 8}, id="int8"),
    pytest.param({"bits": 4, "group_size": 32}, id="int4"),
    pytest.param({"bits": 4, "group_size": 32, "has_minimums": True}, id="int4-minimums"),
]


def batch() -> PackedBatch:
    generator = torch.Generator().manual_seed(1)
    return PackedBatch.from_sequences(
        [torch.randint(97, (length,), generator=generator) for length in (5, 17, 1)]
    )


@torch.no_grad()
def logits(model: CausalLM) -> Tensor:
    return model.logits(batch())


def draw(model: CausalLM) -> None:
    """Moves the trained weights away from their start."""
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)


def adapted(settings: LoraSettings = ALL, name: str = "llama-tiny", **changes: Any) -> CausalLM:
    model = tiny_model(name, **{"intermediate_size": 64, **changes})
    add_lora(model, settings)
    draw(model)
    return model


@torch.no_grad()
def merged_by_hand(model: CausalLM, shares: dict[str, float]) -> CausalLM:
    """A plain model with W + share * scale * up @ down, in fp64."""
    weights = dict(model.named_parameters())
    plain = copy.deepcopy(model).double()
    remove_adapters(plain)
    width = {"q_proj": (0, 32), "k_proj": (32, 48), "v_proj": (48, 64)}
    width |= {"gate_proj": (0, 64), "up_proj": (64, 128), "o_proj": (0, 32), "down_proj": (0, 32)}
    for key, down in weights.items():
        if key.endswith(".down"):
            layer, _, rest = key.partition(".adapters.")
            adapter, part, _ = rest.split(".")
            up = weights[key.removesuffix("down") + "up"].double()
            begin, end = width[part]
            change = 2.0 * shares.get(adapter, 0.0) * up @ down.double()
            plain.get_parameter(f"{layer}.weight")[begin:end] += change
    return plain


@pytest.mark.parametrize("shares", [{"default": 1.0}, {"default": 0.5, "other": -1.5}, {}])
def test_active_adapters_equal_weights_merged_by_hand(shares: dict[str, float]) -> None:
    model = adapted()
    add_lora(model, dataclasses.replace(ALL, targets=("v_proj", "mlp.up")), "other")
    draw(model)
    exact = merged_by_hand(model, shares)

    set_adapter(model, shares)

    assert_within_tolerance(
        "logits", logits(model), logits(copy.deepcopy(exact).float()), logits(exact)
    )


@pytest.mark.parametrize("is_merged", [False, True], ids=["beside", "merged"])
def test_merge_and_unmerge_are_exact_to_rounding(is_merged: bool) -> None:
    model = adapted()
    exact = merged_by_hand(model, {"default": 1.0})
    plain = {key: value.clone() for key, value in model.state_dict().items()}

    merge_lora(model)
    weight = model.get_parameter("transformer.blocks.0.mlp.up.weight").clone()
    if not is_merged:
        unmerge_lora(model)

    eps = torch.finfo(torch.float32).eps
    expected = exact.get_parameter("transformer.blocks.0.mlp.up.weight")
    assert (weight - expected).abs().max() <= 2 * eps * expected.abs().max()
    assert_within_tolerance(
        "logits", logits(model), logits(copy.deepcopy(exact).float()), logits(exact)
    )
    largest = max(value.abs().max() for value in plain.values())
    difference = max((value - plain[key]).abs().max() for key, value in model.state_dict().items())
    assert is_merged or difference <= 4 * eps * largest


def test_bf16_merge_rounds_once() -> None:
    model = adapted()
    model.to(torch.bfloat16)
    exact = merged_by_hand(model, {"default": 1.0})

    merge_lora(model)

    for name in ("attention.qkv", "attention.out", "mlp.up", "mlp.down"):
        weight = model.get_parameter(f"transformer.blocks.1.{name}.weight")
        expected = exact.get_parameter(f"transformer.blocks.1.{name}.weight")
        error = (weight.double() - expected).abs()
        # half a unit in the last of 8 bits, and the rounding of fp32 before
        assert bool((error <= expected.abs() * 2**-8 * 1.001 + 1e-7).all())


def test_bf16_base_keeps_adapter_in_fp32_and_new_adapter_changes_nothing() -> None:
    model = tiny_model("llama-tiny").to(torch.bfloat16)
    before = logits(model)

    add_lora(model, ALL)

    assert {weight.dtype for weight in trainable_state(model).values()} == {torch.float32}
    assert torch.equal(logits(model), before)


def test_names_of_other_weights_stay_and_removal_brings_the_model_back() -> None:
    model = tiny_model("gpt2-tiny")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    add_lora(model, ALL, "one")
    draw(model)
    assert set(before) <= set(model.state_dict())
    assert adapter_names(model) == ("one",)

    remove_adapters(model)

    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert type(model.get_submodule("transformer.blocks.0.mlp.up")) is torch.nn.Linear


def test_number_of_trained_weights() -> None:
    model = tiny_model("llama-tiny", num_kv_heads=2)

    add_lora(model, LoraSettings(rank=3, targets=("attention",)))

    # q 32 -> 32, k and v 32 -> 16, out 32 -> 32, two layers
    assert num_trainable_parameters(model) == 2 * 3 * (64 + 48 + 48 + 64)


def test_rslora_scale_and_dropout() -> None:
    settings = LoraSettings(rank=4, alpha=6.0, use_rslora=True, dropout=0.5, targets=("all",))
    model, same = adapted(settings), adapted(dataclasses.replace(settings, dropout=0.0))
    pair = model.get_submodule("transformer.blocks.0.mlp.down.adapters.default.down_proj")

    assert pair.scale == 6.0 / math.sqrt(4)
    assert torch.equal(logits(model), logits(same))
    assert not torch.equal(logits(model.train()), logits(same.train()))


@pytest.mark.parametrize("options", QUANTIZED)
def test_quantized_base_equals_its_dequantized_weights(options: dict[str, Any]) -> None:
    model = adapted(has_bias=True)
    plain = logits(model)
    quantize_base(model, **options)
    written_out = copy.deepcopy(model)
    dequantize_base(written_out)
    assert (logits(written_out) - plain).abs().max() > 1e-3
    labels = torch.randint(97, (23,), generator=torch.Generator().manual_seed(3))

    for each in (model, written_out):
        each(batch(), labels)[0].backward()

    torch.testing.assert_close(logits(model), logits(written_out), rtol=0, atol=1e-5)
    grads = {key: weight.grad for key, weight in written_out.named_parameters()}
    for key, weight in model.named_parameters():
        assert (weight.grad is None) == (".adapters." not in key)
        if weight.grad is not None and grads[key] is not None:
            scale = float(grads[key].norm())
            assert float((weight.grad - grads[key]).norm()) <= 1e-5 * scale


def test_quantized_model_in_bf16_keeps_its_scales() -> None:
    model = tiny_model("llama-tiny")
    quantize_base(model, bits=8)
    scales = model.get_buffer("transformer.blocks.0.mlp.up.weight.scales").clone()

    model.to(torch.bfloat16)

    assert torch.equal(model.get_buffer("transformer.blocks.0.mlp.up.weight.scales"), scales)
    assert logits(model).dtype == torch.bfloat16


@pytest.mark.parametrize("bits", [None, 8], ids=["fp32", "int8"])
def test_training_changes_the_adapter_alone_and_resumes_from_its_state(bits: int | None) -> None:
    model = tiny_model("gpt2-tiny")
    if bits is not None:
        quantize_base(model, bits=bits)
    fresh = copy.deepcopy(model)
    base = {key: value.clone() for key, value in model.state_dict().items()}
    add_lora(model, ALL)
    ids = torch.randint(97, (24,), generator=torch.Generator().manual_seed(4))
    one, labels = PackedBatch.from_sequences([ids]), ids.roll(-1)
    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], lr=1e-2
    )

    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss_sum, count = model(one, labels)
        (loss_sum / count).backward()
        optimizer.step()
        losses.append(float(loss_sum.detach() / count))
    add_lora(fresh, ALL)
    load_trainable_state(fresh, trainable_state(model))

    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(model.state_dict()[key], value) for key, value in base.items())
    assert torch.equal(logits(fresh), logits(model))


def test_disabled_adapters_leave_the_base(tmp_path: Any) -> None:
    model, plain = adapted(), tiny_model("llama-tiny", intermediate_size=64)

    disable_adapters(model)
    save_pretrained(model, tmp_path)

    assert torch.equal(logits(model), logits(plain))
    assert torch.equal(logits(load_pretrained(tmp_path)), logits(plain))


def test_merged_model_saves_and_an_unmerged_one_is_refused(tmp_path: Any) -> None:
    model = adapted()
    with pytest.raises(ValueError, match=r"active adapter 'default', which the folder cannot hold"):
        save_pretrained(model, tmp_path)

    merge_lora(model)
    save_pretrained(model, tmp_path)

    assert torch.equal(logits(load_pretrained(tmp_path)), logits(model))


def test_merge_into_integers_is_refused(tmp_path: Any) -> None:
    model = adapted()
    quantize_base(model, bits=8)

    with pytest.raises(ValueError, match="has a weight of 8 bits, into which a merge would round"):
        merge_lora(model)
    disable_adapters(model)
    with pytest.raises(ValueError, match="has 8 bits, which the folder cannot hold"):
        save_pretrained(model, tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "rank is 0; expected at least 1"),
        ({"alpha": 0.0}, "alpha is 0.0; expected a number above 0"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 or more and less than 1"),
        ({"targets": "all"}, "targets is 'all'; expected a tuple"),
        ({"targets": ()}, "targets is "),
    ],
)
def test_settings_are_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraSettings(**fields)


@pytest.mark.parametrize(
    ("targets", "name", "message"),
    [
        (("query",), "a", r"'query' names no linear layer of this llama model; .* attention.qkv"),
        (("cross_attention",), "a", "'cross_attention' names no linear layer"),
        (("head",), "a", "'head' names no linear layer"),
        (("all",), "a.b", "the adapter name 'a.b' cannot be part of a weight's name"),
        (("all",), "keys", "the adapter name 'keys'"),
        (("all",), "default", "has an adapter 'default' already"),
    ],
)
def test_unknown_targets_and_names_are_refused(
    targets: tuple[str, ...], name: str, message: str
) -> None:
    model = adapted()

    with pytest.raises(ValueError, match=message):
        add_lora(model, LoraSettings(targets=targets), name)


def test_wrong_order_of_calls_is_refused() -> None:
    model = adapted()

    with pytest.raises(ValueError, match="no adapter 'b'; it has 'default'"):
        set_adapter(model, "b")
    with pytest.raises(ValueError, match="no adapter is merged"):
        unmerge_lora(model)
    with pytest.raises(ValueError, match="the share of adapter 'default' is nan"):
        set_adapter(model, {"default": math.nan})
    merge_lora(model)
    with pytest.raises(ValueError, match="'default' is merged; expected none"):
        disable_adapters(model)
    with pytest.raises(ValueError, match="'default' is merged; expected none"):
        add_lora(model, ALL, "b")
    with pytest.raises(ValueError, match="has a merged adapter"):
        quantize_base(model, bits=8)
    with pytest.raises(ValueError, match="trains_head is True for CausalLM"):
        add_lora(tiny_model(), LoraSettings(trains_head=True))
    with pytest.raises(ValueError, match=r"group_size is 128 for weight .*expected one of"):
        quantize_base(tiny_model(), bits=4)
