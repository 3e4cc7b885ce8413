from collections.abc import Callable
from typing import Any

import pytest
import torch

from weldlm_kernels import (
    attention,
    layer_norm,
    linear_cross_entropy,
    linear_kl_divergence,
    rms_norm,
    rotary,
)

INTEGERS = torch.arange(12)
FLOATS = INTEGERS.float()
OFFSETS = torch.tensor([0, 3], dtype=torch.int32)
LENGTHS: dict[str, Any] = {
    "q_offsets": OFFSETS,
    "k_offsets": OFFSETS,
    "q_max_length": 3,
    "k_max_length": 3,
    "is_causal": True,
}
ROWS = FLOATS.view(3, 4)
HEADS = FLOATS.view(3, 1, 4)
CALLS: dict[str, Callable[[], Any]] = {
    "layer_norm: x": lambda: layer_norm(ROWS.long(), ROWS[0]),
    "rms_norm: x": lambda: rms_norm(ROWS.long(), ROWS[0]),
    "attention: q": lambda: attention(HEADS.long(), HEADS, HEADS, **LENGTHS),
    "attention: k": lambda: attention(HEADS, HEADS.long(), HEADS, **LENGTHS),
    "attention: v": lambda: attention(HEADS, HEADS, HEADS.long(), **LENGTHS),
    "rotary: x": lambda: rotary(HEADS.long(), ROWS[:, :2], ROWS[:, :2], INTEGERS[:3]),
    "linear_cross_entropy: hidden": lambda: linear_cross_entropy(ROWS.long(), ROWS, INTEGERS[:3]),
    "linear_kl_divergence: student_hidden": lambda: linear_kl_divergence(
        ROWS.long(), ROWS, ROWS, ROWS
    ),
    "linear_kl_divergence: teacher_hidden": lambda: linear_kl_divergence(
        ROWS, ROWS, ROWS.long(), ROWS
    ),
}


@pytest.mark.parametrize("what", CALLS)
def test_integers_are_refused_by_name(what: str) -> None:
    name = what.split(": ")[1]

    with pytest.raises(TypeError, match=rf"^{name} is torch.int64; expected float32, .*convert it"):
        CALLS[what]()
