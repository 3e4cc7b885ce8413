"""Decoder families: logits, loss and gradients of transformers, both ways, packed and cached."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.their_models import SIZES, gradient_errors, packed_logits, ragged_ids, their_model
from weldlm.cache import KVCache
from weldlm.heads import CausalLM
from weldlm.packing import PackedBatch
from weldlm.weights import load_config, load_pretrained, save_pretrained

transformers = pytest.importorskip("transformers")

GROUPED = {"num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}
LOCAL = {"rope_type": "default", "rope_theta": 30.0}

# (model type, architecture, fields)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("gpt2", "GPT2LMHeadModel", {"n_inner": 48, "bos_token_id": 1, "eos_token_id": 2}),
    "llama": ("llama", "LlamaForCausalLM", {}),
    "llama-attention-bias": ("llama", "LlamaForCausalLM", {"attention_bias": True}),
    "llama-mlp-bias": ("llama", "LlamaForCausalLM", {"mlp_bias": True}),
    "llama3-rope": ("llama", "LlamaForCausalLM", {"rope_parameters": LLAMA3}),
    "linear-rope": ("llama", "LlamaForCausalLM", {"rope_parameters": LINEAR}),
    "mistral": ("mistral", "MistralForCausalLM", {"sliding_window": 6, "head_dim": 16}),
    "mistral-no-window": ("mistral", "MistralForCausalLM", {"sliding_window": None}),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen2-window": (
        "qwen2",
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", {"head_dim": 16}),
    "qwen3-bias": ("qwen3", "Qwen3ForCausalLM", {"head_dim": 8, "attention_bias": True}),
    "gemma2": (
        "gemma2",
        "Gemma2ForCausalLM",
        {
            "head_dim": 16,
            "num_hidden_layers": 3,
            "sliding_window": 5,
            "query_pre_attn_scalar": 12,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        "Gemma3ForCausalLM",
        {
            "head_dim": 8,
            "num_hidden_layers": 3,
            "sliding_window": 5,
            "sliding_window_pattern": 2,
            "rope_parameters": {"full_attention": LINEAR, "sliding_attention": LOCAL},
        },
    ),
}
FAMILIES = pytest.mark.parametrize("name", CASES)


def theirs_of(name: str) -> Any:
    model_type, architecture, fields = CASES[name]
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **GROUPED, **fields})
    return their_model(config, architecture)


def ours_of(name: str, folder: Path) -> CausalLM:
    theirs_of(name).save_pretrained(folder)
    return load_pretrained(folder)


@FAMILIES
def test_their_folder_loads_with_equal_logits(tmp_path: Path, name: str) -> None:
    theirs = theirs_of(name)
    theirs.save_pretrained(tmp_path)
    sequences = ragged_ids(5, 17, 1, 31)

    with torch.no_grad():
        logits = packed_logits(load_pretrained(tmp_path), sequences)

        expected = torch.cat([theirs(ids.unsqueeze(0)).logits[0] for ids in sequences])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@FAMILIES
def test_our_folder_loads_in_transformers_with_equal_logits(tmp_path: Path, name: str) -> None:
    ours, (ids,) = ours_of(name, tmp_path / "theirs"), ragged_ids(31)

    save_pretrained(ours, tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()

    with torch.no_grad():
        expected = again(ids.unsqueeze(0)).logits[0]
        torch.testing.assert_close(packed_logits(ours, [ids]), expected, rtol=0, atol=1e-5)
    assert load_config(tmp_path / "ours") == ours.config


@FAMILIES
def test_loss_and_every_gradient_equal_transformers(tmp_path: Path, name: str) -> None:
    theirs, ours, (ids,) = theirs_of(name), ours_of(name, tmp_path / "theirs"), ragged_ids(19)
    labels = torch.cat((ids[1:], torch.tensor([-100])))

    loss_sum, count = ours(PackedBatch.from_sequences([ids]), labels)
    (loss_sum / count).backward()
    expected = theirs(ids.unsqueeze(0), labels=ids.unsqueeze(0)).loss
    expected.backward()

    torch.testing.assert_close(loss_sum / count, expected, rtol=0, atol=1e-6)
    assert max(gradient_errors(ours, theirs, tmp_path / "gradients").values()) <= 1e-5


@FAMILIES
def test_packed_equals_one_by_one(tmp_path: Path, name: str) -> None:
    ours, sequences = ours_of(name, tmp_path), ragged_ids(7, 1, 30, 13)

    with torch.no_grad():
        packed = packed_logits(ours, sequences)
        alone = torch.cat([packed_logits(ours, [ids]) for ids in sequences])

    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


@FAMILIES
def test_a_changed_token_leaks_into_no_other_document(tmp_path: Path, name: str) -> None:
    ours, (first, second) = ours_of(name, tmp_path), ragged_ids(9, 11)

    with torch.no_grad():
        before = packed_logits(ours, [first, second])
        after = packed_logits(ours, [first.flip(0), second])

    assert torch.equal(before[9:], after[9:])
    assert not torch.equal(before[:9], after[:9])


@FAMILIES
@pytest.mark.parametrize("chunk", [1, 13], ids=["tokens", "chunks"])
def test_cached_equals_uncached(tmp_path: Path, name: str, chunk: int) -> None:
    ours, (ids,) = ours_of(name, tmp_path), ragged_ids(29)
    cache = KVCache(ours.config, 2, 16, dtype=torch.float32, device="cpu")
    blocks = np.array([[1, 0]], dtype=np.int32)

    with torch.inference_mode():
        parts = [
            ours.logits(
                PackedBatch.from_lengths(part, [len(part)], starts=[place * chunk]),
                cache.step(blocks, [place * chunk], [len(part)]),
            )
            for place, part in enumerate(ids.split(chunk))
        ]

        expected = packed_logits(ours, [ids])
    torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=1e-5)


@FAMILIES
def test_parameter_count_equals_the_built_model(tmp_path: Path, name: str) -> None:
    ours = ours_of(name, tmp_path)

    assert ours.config.num_parameters == sum(weight.numel() for weight in ours.parameters())


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope"])
def test_other_rope_scaling_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    theirs_of("llama").config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    text = path.read_text().replace('"rope_type": "default"', f'"rope_type": "{kind}"')
    path.write_text(text)

    with pytest.raises(ValueError, match=f"rope_type '{kind}' is not supported; expected"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("gpt2", "is_causal", False),
        ("llama", "is_causal", False),
        ("gemma2", "is_causal", False),
        # transformers has the field, and computes without it
        ("gemma3", "attn_logit_softcapping", 5.0),
    ],
    ids=["gpt2", "llama", "gemma2", "gemma3-softcap"],
)
def test_unsupported_fields_are_refused_by_name(
    tmp_path: Path, name: str, field: str, value: object
) -> None:
    config = theirs_of(name).config
    setattr(config, field, value)
    config.save_pretrained(tmp_path)

    with pytest.raises(ValueError, match=f"{field} = {value} is not supported"):
        load_config(tmp_path)


def test_mistral_without_the_field_has_the_window_of_transformers(tmp_path: Path) -> None:
    theirs_of("mistral").config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    del fields["sliding_window"]
    path.write_text(json.dumps(fields))

    expected = transformers.AutoConfig.from_pretrained(tmp_path).sliding_window
    assert load_config(tmp_path).window == expected


def test_several_eos_ids_survive(tmp_path: Path) -> None:
    model_type, architecture, fields = CASES["llama"]
    config = transformers.AutoConfig.for_model(
        model_type, **SIZES, **GROUPED, **fields, eos_token_id=[7, 8, 9]
    )
    their_model(config, architecture).save_pretrained(tmp_path / "theirs")

    save_pretrained(load_pretrained(tmp_path / "theirs"), tmp_path / "ours")

    again = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    assert again.eos_token_id == [7, 8, 9]
