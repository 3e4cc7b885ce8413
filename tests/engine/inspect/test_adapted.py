"""A model with an adapter is looked at as the one that it is merged into."""

import copy

import torch

from tests.engine.inspect.watched_models import IDS
from tests.engine.tiny_models import tiny_model
from weldlm.adapters import LoraSettings, add_lora, merge_lora
from weldlm.heads import CausalLM
from weldlm.inspect import Sample, ablate_heads, attention_maps, attribute_tokens, logit_lens

LABELS = torch.cat((IDS[1:], torch.tensor([-100])))


def adapted_model() -> CausalLM:
    model = tiny_model("llama-160m")
    add_lora(model, LoraSettings(rank=4))
    for name, weight in model.named_parameters():
        if name.endswith("up"):
            torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


def test_every_view_is_that_of_the_merged_model() -> None:
    model, sample = adapted_model(), Sample(IDS)
    merged = copy.deepcopy(model)
    merge_lora(merged)

    views = [
        (
            attention_maps(each, sample)["self"],
            ablate_heads(each, sample, LABELS).changes["self"],
            attribute_tokens(each, sample, row=-1, column=7, num_steps=5).tokens,
            logit_lens(each, sample).target_log_probabilities,
        )
        for each in (model, merged, tiny_model("llama-160m"))
    ]

    for found, expected, without in zip(*views, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert float((found - without).abs().max()) > 0.01
