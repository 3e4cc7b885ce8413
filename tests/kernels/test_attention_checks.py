"""What attention refuses of its options."""

from typing import Any

import pytest
import torch

from tests.kernels.test_attention import Case, make_inputs, packed
from weldlm_kernels import attention

CASE = Case((4,), num_heads=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0; expected a value above 0"),
        ({"softcap": 0}, "softcap is 0; expected a value above 0"),
        ({"relative_bias": torch.zeros(8, 3)}, "with the heads of q"),
        ({"relative_bias": torch.zeros(1, 2)}, "has 1 buckets; expected 2"),
        ({"alibi_slopes": torch.zeros(3)}, r"alibi_slopes \(3,\) .* with the heads of q"),
        (
            {"alibi_slopes": torch.zeros(2, requires_grad=True)},
            r"requires a gradient.*alibi_slopes.detach\(\)",
        ),
        ({"dropout_p": 1.0}, "dropout_p is 1.0; expected 0 <= dropout_p < 1"),
        ({"dropout_p": -0.1}, "dropout_p is -0.1; expected 0 <= dropout_p < 1"),
        ({"dropout_p": 0.5}, "dropout_seed is None at dropout_p 0.5; expected one int64"),
        (
            {"dropout_p": 0.5, "dropout_seed": torch.zeros(2)},
            r"dropout_seed is torch.float32 \(2,\)",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_option_that_does_not_fit_is_named(options: dict[str, Any], message: str) -> None:
    inputs = make_inputs(CASE, torch.float32)

    with pytest.raises(ValueError, match=message):
        attention(**inputs, **(packed(CASE) | options))
