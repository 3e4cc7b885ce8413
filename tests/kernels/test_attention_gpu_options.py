"""The options of attention in Triton: each of them, and together, against the reference."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.oracle import assert_equals_reference, outputs_and_gradients
from tests.kernels.test_attention import Case, make_inputs, packed
from weldlm_kernels import attention

# more and fewer keys than rows, rows without keys, and more than a tile of both
CAUSAL = Case((9, 40), (4, 70), num_behind=2)
FULL = Case((9, 40), (4, 70), is_causal=False, num_behind=2)
LONG = Case((160,), num_heads=1)
LONG_FULL = Case((160,), num_heads=1, is_causal=False)

SLOPES = {"alibi_slopes": torch.tensor([0.5, 0.03])}
DROPOUT = {"dropout_p": 0.3, "dropout_seed": torch.tensor([2**40 + 12345])}
BIAS = {"relative_bias_max_distance": 20, "num_buckets": 8}
BIAS_FULL = BIAS | {"relative_bias_is_bidirectional": True}
GEMMA = {"window": 60, "softcap": 1.5}
ALL = GEMMA | SLOPES | DROPOUT

CASES: dict[str, tuple[Case, dict[str, Any]]] = {
    "window": (CAUSAL, {"window": 20}),
    "window-full": (FULL, {"window": 20}),
    "window-of-whole-tiles": (LONG, {"window": 80}),
    "softcap-and-window": (CAUSAL, GEMMA),
    "bias": (CAUSAL, BIAS),
    "bias-full": (FULL, BIAS_FULL),
    "alibi": (CAUSAL, SLOPES),
    "dropout": (CAUSAL, DROPOUT),
    "all": (CAUSAL, ALL | BIAS),
}
# fewer by default, because the interpreter is slow
MORE_CASES: dict[str, tuple[Case, dict[str, Any]]] = {
    "window-of-whole-tiles-full": (LONG_FULL, {"window": 75}),
    "window-of-two": (Case((9, 40), num_heads=1), {"window": 2}),
    "softcap": (CAUSAL, {"softcap": 1.5}),
    "bias-within-a-tile": (LONG_FULL, BIAS_FULL | {"relative_bias_max_distance": 9}),
    "bias-farther-than-the-keys": (CAUSAL, BIAS | {"relative_bias_max_distance": 300}),
    "bias-of-more-buckets-than-distances": (
        Case((40,), is_causal=False),
        BIAS_FULL | {"relative_bias_max_distance": 9, "num_buckets": 32},
    ),
    "alibi-full": (FULL, SLOPES),
    "dropout-full": (FULL, DROPOUT),
    "all-full": (FULL, ALL | BIAS_FULL),
    "all-long": (Case((300, 40)), ALL | BIAS),
    "all-long-full": (Case((300, 40), (170, 140), is_causal=False), ALL | BIAS_FULL),
}


def row(name: str, dtype: torch.dtype, defaults: Iterable[str]) -> Any:
    return pytest.param(name, dtype, marks=() if name in defaults else pytest.mark.slow)


def call_and_inputs(
    case: Case, options: dict[str, Any], dtype: torch.dtype
) -> tuple[Callable[..., tuple[Tensor, Tensor]], dict[str, Tensor]]:
    settings, inputs = packed(case) | options, make_inputs(case, dtype)
    num_buckets = settings.pop("num_buckets", 0)
    if num_buckets:
        generator = torch.Generator().manual_seed(3)
        bias = torch.randn(num_buckets, case.num_heads, generator=generator)
        inputs["relative_bias"] = bias.to(dtype)

    def attend(**tensors: Tensor) -> tuple[Tensor, Tensor]:
        out, lse = attention(**tensors, **settings)
        return out, lse.detach()

    return attend, inputs


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *(row(name, torch.float32, CASES) for name in CASES | MORE_CASES),
        *(row(name, torch.bfloat16, ["softcap-and-window", "all"]) for name in CASES | MORE_CASES),
        *(row(name, torch.float16, []) for name in CASES | MORE_CASES),
    ],
    ids=str,
)
def test_gpu_equals_reference(name: str, dtype: torch.dtype) -> None:
    attend, inputs = call_and_inputs(*(CASES | MORE_CASES)[name], dtype)

    assert_equals_reference(attend, inputs, backend="gpu")


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", [40, 64, 128, 192, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("is_causal", [True, False], ids=["causal", "full"])
def test_gpu_equals_reference_at_every_tile(
    is_causal: bool, dtype: torch.dtype, head_dim: int
) -> None:
    case = Case((150, 3), is_causal=is_causal, head_dim=head_dim)
    options = ALL | BIAS | {"relative_bias_is_bidirectional": not is_causal}
    attend, inputs = call_and_inputs(case, options, dtype)

    assert_equals_reference(attend, inputs, backend="gpu")


def test_a_large_bias_stays_out_of_rows_that_are_not_there() -> None:
    # exp(200) is more than fp32 holds, and a tile has more rows than the sequence
    attend, inputs = call_and_inputs(Case((5,)), BIAS, torch.float32)
    inputs["relative_bias"] += 200

    found = outputs_and_gradients(attend, inputs, backend="gpu")

    assert all(x.isfinite().all() for x in found.values())


def test_rows_without_keys_get_zeros_with_every_option() -> None:
    attend, inputs = call_and_inputs(Case((9, 3), (4, 0)), ALL | BIAS, torch.float32)

    found = outputs_and_gradients(attend, inputs, backend="gpu")

    is_blind = torch.tensor([True] * 5 + [False] * 4 + [True] * 3)
    torch.testing.assert_close(found["output 1"][0].isneginf(), is_blind)
    assert found["output 0"][is_blind].count_nonzero() == 0
    assert found["grad q"][is_blind].count_nonzero() == 0


def test_gradients_are_the_same_each_time() -> None:
    attend, inputs = call_and_inputs(Case((20, 9)), ALL | BIAS, torch.float32)

    first, second = (outputs_and_gradients(attend, inputs, backend="gpu") for _ in range(2))

    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_compiled_equals_eager() -> None:
    attend, inputs = call_and_inputs(Case((5, 6), num_behind=2), ALL | BIAS, torch.float32)
    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True)

    actual = outputs_and_gradients(compiled, inputs, backend="gpu")

    expected = outputs_and_gradients(attend, inputs, backend="gpu")
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
