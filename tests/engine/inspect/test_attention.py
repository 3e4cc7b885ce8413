"""Attention maps against those of transformers, and rollout against its formula."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.inspect.watched_models import both_models, their_call
from tests.engine.tiny_models import tiny_model
from tests.tolerance import assert_within_tolerance
from weldlm.inspect import Sample, attention_maps, attention_rollout

pytest.importorskip("transformers")

# learned positions; grouped heads and rotary; windows; qk-norm; both directions; T5's bias; cross
FAMILIES = ["gpt2", "llama", "mistral", "qwen3", "bert", "modernbert", "t5", "bart"]
THEIR_NAMES = {
    "self": "attentions",
    "encoder": "encoder_attentions",
    "decoder": "decoder_attentions",
    "cross": "cross_attentions",
}


def their_maps(theirs: Any, kinds: list[str]) -> dict[str, Tensor]:
    output = their_call(theirs, output_attentions=True)
    return {kind: torch.cat(list(output[THEIR_NAMES[kind]])) for kind in kinds}


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    theirs, ours, sample = both_models(family, tmp_path)

    maps = attention_maps(ours, sample)

    kinds = list(maps)
    in_fp32, exact = their_maps(theirs, kinds), their_maps(theirs.double(), kinds)
    for kind in kinds:
        assert_within_tolerance(kind, maps[kind], in_fp32[kind].float(), exact[kind].double())
    assert kinds == (["self"] if len(kinds) == 1 else ["encoder", "decoder", "cross"])


def test_maps_with_a_softcap_are_softmax_of_the_capped_scores() -> None:
    model, ids = tiny_model("gemma2-2b", attention_softcap=2.0, window=3), torch.arange(7) + 5
    found: dict[str, Tensor] = {}
    layer: Any = model.transformer.blocks[0]
    layer.attention.register_forward_pre_hook(lambda _, given: found.update(x=given[0]))

    maps = attention_maps(model, Sample(ids))["self"]

    heads = layer.attention.qkv(found["x"]).double().view(7, -1, 8)
    angle = torch.outer(torch.arange(7.0), 10_000.0 ** -(torch.arange(0, 8, 2) / 8)).double()
    turned = torch.polar(torch.ones_like(angle), angle).unsqueeze(1)
    pairs = torch.view_as_complex(heads.unflatten(2, (2, 4)).transpose(2, 3).contiguous()) * turned
    q, k = torch.view_as_real(pairs).flatten(2)[:, :8].split(4, dim=1)
    scores = torch.einsum("t h d, s h d -> h t s", q, k) * model.config.attention_scale
    distance = torch.arange(7).unsqueeze(1) - torch.arange(7)
    hidden = (distance < 0) | (distance >= 3)
    expected = (2 * torch.tanh(scores / 2)).masked_fill(hidden, -torch.inf).softmax(dim=-1)
    torch.testing.assert_close(maps[0], expected.float(), rtol=1e-5, atol=1e-6)


def test_rollout_is_the_product_of_the_mixed_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 2, 5, 5, generator=generator).softmax(dim=-1)

    rolled = attention_rollout(maps)

    mixed = (maps.double().mean(dim=1).numpy() + np.eye(5)) / 2
    expected = [mixed[0], mixed[1] @ mixed[0], mixed[2] @ mixed[1] @ mixed[0]]
    np.testing.assert_allclose(rolled.numpy(), np.stack(expected), atol=1e-6)
    np.testing.assert_allclose(rolled.sum(dim=-1).numpy(), 1.0, atol=1e-6)


def test_rollout_of_cross_attention_is_refused() -> None:
    with pytest.raises(ValueError, match=r"maps has shape \(2, 4, 3, 5\); expected"):
        attention_rollout(torch.rand(2, 4, 3, 5))


def test_hooks_are_gone_afterwards() -> None:
    model = tiny_model()

    attention_maps(model, Sample(torch.tensor([5, 6])))

    assert not [m for m in model.modules() if m._forward_pre_hooks or m._forward_hooks]
