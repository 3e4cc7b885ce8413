"""Caches through a patched model, under either name that versions of transformers have for them."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

import weldlm
from tests.engine.patched_models import batch_of, relative_differences, tiny_model
from weldlm.patching.parameters import CACHE_NAMES
from weldlm.patching.verification import loss_and_gradients

DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
OLD = "past_key_values"


def installed_name(model: Any) -> str:
    """What the installed version calls the cache."""
    return next(name for name in inspect.signature(model.forward).parameters if name in CACHE_NAMES)


def continued(model: Any, name: str) -> Tensor:
    """Logits [B, 4, V] of four tokens after those in a cache; padded on the left."""
    batch = batch_of(model, "left")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    seen = model(input_ids=ids[:, :-4], attention_mask=mask[:, :-4], use_cache=True)
    given = {name: getattr(seen, OLD)}
    logits: Tensor = model(input_ids=ids[:, -4:], attention_mask=mask, **given).logits
    return logits


def first_keys(cache: Any) -> Tensor:
    """Keys of the first layer's own attention."""
    keys: Tensor = getattr(cache, "self_attention_cache", cache).layers[0].keys
    return keys


@pytest.mark.filterwarnings("ignore:.*past_key_values.* is deprecated:FutureWarning")
@pytest.mark.parametrize("is_old", [False, True], ids=["installed-name", "old-name"])
@pytest.mark.parametrize("family", DECODERS)
@torch.no_grad()
def test_calls_with_a_cache_are_those_before(family: str, is_old: bool) -> None:
    model = tiny_model(family)
    name = OLD if is_old else installed_name(model)
    before = continued(model, name)

    weldlm.patch(model)

    # rows of fewer tokens have padding among the four
    torch.testing.assert_close(continued(model, name)[1], before[1], rtol=1e-5, atol=2e-5)


@torch.no_grad()
def test_cache_by_position_is_taken() -> None:
    model = tiny_model("gpt2")
    ids = batch_of(model)["input_ids"]
    stack = model.transformer
    before = stack(ids[:, 5:], getattr(stack(ids[:, :5], use_cache=True), OLD)).last_hidden_state

    weldlm.patch(model)
    after = stack(ids[:, 5:], getattr(stack(ids[:, :5], use_cache=True), OLD)).last_hidden_state

    torch.testing.assert_close(after, before, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("family", [*DECODERS, "t5"])
def test_loss_comes_with_the_cache_that_is_asked_for(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model) | {"use_cache": True}
    before = model(**batch)

    weldlm.patch(model)
    after = model(**batch)

    assert after.loss.item() == pytest.approx(before.loss.item(), rel=1e-5)
    keys, expected = (first_keys(getattr(outputs, OLD)) for outputs in (after, before))
    torch.testing.assert_close(keys, expected, rtol=1e-5, atol=2e-5)
    assert after[OLD] is after.get(OLD) is getattr(after, OLD)
    assert OLD in after


@pytest.mark.parametrize("name", CACHE_NAMES)
@pytest.mark.parametrize("family", ["gpt2", "bert", "t5", "bart"])
def test_padding_is_removed_under_either_name(
    family: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    before = loss_and_gradients(model, batch)
    for cls in {type(module) for module in model.modules()}:
        signature = inspect.signature(cls.forward)
        parameters = [
            one.replace(name=name) if one.name in CACHE_NAMES else one
            for one in signature.parameters.values()
        ]
        monkeypatch.setattr(cls.forward, "__signature__", inspect.Signature(parameters), False)

    report = weldlm.patch(model)

    assert report.padding == "packed"
    assert max(relative_differences(before, loss_and_gradients(model, batch)).values()) < 1e-5
