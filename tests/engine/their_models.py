"""Tiny models of transformers with random weights, and how theirs are compared with ours."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weldlm.heads import Model
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained

__all__ = ["SIZES", "gradient_errors", "packed_logits", "ragged_ids", "their_model"]

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


def their_model(config: Any, architecture: str) -> Any:
    """The model of that name with weights drawn from one seed, larger than at the start of training
    so that outputs differ visibly between tokens."""
    import transformers

    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:  # constants are kept
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def ragged_ids(*lengths: int) -> list[Tensor]:
    """Sequences without the ids below 5, which some families keep for padding."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(5, 97, (length,), generator=generator) for length in lengths]


def gradient_errors(ours: Model, theirs: Any, folder: Path) -> dict[str, float]:
    """|ours - theirs| / |theirs| of each parameter's gradient.

    One that is zero but for rounding, like that of a bias before a softmax, is measured against the
    gradient of all parameters. Their gradients go through a saved folder, as if they were weights,
    to get our names.
    """
    for weight in theirs.parameters():
        weight.data = torch.zeros_like(weight) if weight.grad is None else weight.grad
    theirs.save_pretrained(folder)
    expected = load_pretrained(folder, type(ours)).state_dict()
    whole = torch.cat([grad.flatten() for grad in expected.values()]).norm()
    errors = {}
    for name, weight in ours.named_parameters():
        grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        scale = expected[name].norm()
        scale = scale if scale > 1e-6 * whole else whole
        errors[name] = float((grad - expected[name]).norm() / scale)
    return errors


def packed_logits(model: Any, sequences: list[Tensor]) -> Tensor:
    return model.logits(PackedBatch.from_sequences(sequences))  # type: ignore[no-any-return]
