"""Small models that several tests share."""

import torch

from weldlm.config import ModelConfig, preset
from weldlm.heads import CausalLM

__all__ = ["tiny_config", "tiny_model"]


def tiny_config(name: str = "gpt2-tiny", **changes: object) -> ModelConfig:
    """A preset shrunk to two layers of width 32 and 97 tokens."""
    sizes = {
        "vocab_size": 97,
        "context_length": 64,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2 if name.startswith("llama") else 4,
        "head_dim": 8,
        "intermediate_size": 48,
    }
    return preset(name, **{**sizes, **changes})


def tiny_model(name: str = "gpt2-tiny", **changes: object) -> CausalLM:
    """The same model for every call: weights drawn from one seed, larger than at the start of
    training so that outputs differ visibly between tokens."""
    torch.manual_seed(0)
    model = CausalLM(tiny_config(name, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()
