"""bf16 is taken where the hardware has it, and never silently where it has not."""

import logging

import pytest
import torch

from weldlm import precision
from weldlm.precision import autocast, resolve_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(("is_fast", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, is_fast: bool, expected: str
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _device: is_fast)

    assert resolve_dtype("auto", CPU) == expected


@pytest.mark.parametrize(("is_fast", "num_warnings"), [(True, 0), (False, 1)])
def test_slow_bfloat16_is_done_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_fast: bool,
    num_warnings: int,
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _device: is_fast)

    with caplog.at_level(logging.WARNING):
        dtype = resolve_dtype("bfloat16", CPU)

    assert dtype == "bfloat16"
    assert len(caplog.messages) == num_warnings


def test_float16_on_a_cpu_is_done_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_dtype("float16", CPU) == "float16"
    assert "float16 on a CPU is many times slower than float32; it is for GPUs" in caplog.text


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        ("float32", torch.float32),
    ],
)
def test_products_have_the_dtype(dtype: precision.Dtype, expected: torch.dtype) -> None:
    with autocast(dtype, CPU):
        product = torch.ones(2, 3) @ torch.ones(3, 2)

    assert product.dtype == expected
