"""ModelConfig and presets."""

import dataclasses

import pytest
import torch

from weldlm.config import PRESETS, preset
from weldlm.heads import CausalLM, MaskedLM, Seq2SeqLM
from weldlm.weights.model_json import their_config

SMALL = {"num_layers": 2, "vocab_size": 101}


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_parameter_count_equals_the_built_model(name: str, tie_embeddings: bool) -> None:
    config = preset(name, tie_embeddings=tie_embeddings, **SMALL)

    built = sum(weight.numel() for weight in CausalLM(config).parameters())

    assert config.num_parameters == built


def test_gpt2_small_has_its_published_size() -> None:
    assert PRESETS["gpt2"].num_parameters == 124_439_808


# what their authors or transformers count, a tied head once
PUBLISHED = {
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
    "gemma2-2b": 2_614_341_888,
    "gemma3-1b": 999_885_952,
    "bert-base": 109_514_298,
    "roberta-base": 124_697_433,
    "distilbert-base": 66_985_530,
    "modernbert-base": 149_655_232,
    "t5-small": 60_506_624,
    "t5-v1.1-small": 76_961_152,
    "bart-base": 139_420_416,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items(), ids=PUBLISHED.keys())
def test_preset_has_its_published_size(name: str, count: int) -> None:
    assert PRESETS[name].num_parameters == count


@pytest.mark.parametrize("name", ["transformer-base", "transformer-big"])
def test_original_transformer_has_its_published_size(name: str) -> None:
    # table 3 of the paper, in rounded millions
    published = {"transformer-base": 65, "transformer-big": 213}[name]

    assert PRESETS[name].num_parameters / 1e6 == pytest.approx(published, rel=0.04)


def test_flops_per_token_counts_products_and_attention() -> None:
    config = preset("gpt2-tiny", **SMALL)
    hidden, inner = config.hidden_size, config.intermediate_size
    block = 4 * hidden * hidden + 2 * hidden * inner
    weights = config.num_layers * block + config.vocab_size * hidden
    attention = 6 * config.num_layers * hidden * 128

    # biases and norms are the only other weights, and small
    assert config.flops_per_token(128) == pytest.approx(6 * weights + attention, rel=0.01)


def test_another_vocabulary_leaves_no_special_ids_behind() -> None:
    assert preset("gpt2", vocab_size=300).eos_id is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_heads 3 is not a multiple of num_kv_heads 4"),
        ({"num_layers": 0}, "num_layers is 0; expected at least 1"),
        ({"eos_id": 60_000}, "eos_id is 60000; expected an id below vocab_size 50257"),
        ({"depth": 3}, "ModelConfig has no field 'depth'"),
    ],
    ids=["heads", "layers", "eos", "unknown"],
)
def test_bad_field_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset("gpt2-tiny", **changes)


@pytest.mark.parametrize("name", ["bert-base", "t5-small"])
def test_an_encoder_is_no_causal_model(name: str) -> None:
    config = preset(name, num_layers=1, vocab_size=101)

    with pytest.raises(ValueError, match="is of an encoder or has one; expected a decoder"):
        CausalLM(config)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_saved(name: str) -> None:
    head = Seq2SeqLM if PRESETS[name].num_encoder_layers else CausalLM
    head = head if PRESETS[name].is_causal else MaskedLM

    with torch.device("meta"):
        model = head(PRESETS[name])

    assert their_config(model, torch.float32)["model_type"] == PRESETS[name].family


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ValueError, match="preset 'gpt9' does not exist; expected one of gpt2,"):
        preset("gpt9")


def test_odd_rotary_head_is_refused() -> None:
    with pytest.raises(ValueError, match="rotary positions need an even number"):
        dataclasses.replace(PRESETS["llama-tiny"], head_dim=63)
