"""The interpreter of the tests computes what a GPU would, and leaves kernels compilable."""

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from tests.kernels.compiler import compile_for
from tests.kernels.interpreter import interpret
from tests.tolerance import assert_within_tolerance


@triton.jit
def multiply_kernel(a_ptr, b_ptr, out_ptr, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)
    square = index[:, None] * SIZE + index[None, :]

    out = tl.dot(tl.load(a_ptr + square), tl.load(b_ptr + square), input_precision="ieee")

    tl.store(out_ptr + square, out.to(out_ptr.dtype.element_ty))


@triton.jit
def double(x):
    return x * 2


@triton.jit
def arithmetic_kernel(x_ptr, y_ptr, out_ptr, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)
    x = tl.load(x_ptr + index)
    y = tl.load(y_ptr + index)

    out = tl.where(x > y, double(x) + y, -x)

    tl.store(out_ptr + index, out)


@triton.jit
def cast_kernel(x_ptr, out_ptr, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)

    tl.store(out_ptr + index, tl.load(x_ptr + index).to(out_ptr.dtype.element_ty))


def square(dtype: torch.dtype) -> Tensor:
    return torch.randn(32, 32).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dot_multiplies_values(dtype: torch.dtype) -> None:
    a, b, out = square(dtype), square(dtype), square(dtype)

    with interpret():
        multiply_kernel[(1,)](a, b, out, SIZE=32)

    assert_within_tolerance("dot", out, a @ b, a.double() @ b.double())


def test_bfloat16_arithmetic_equals_torch() -> None:
    x, y, out = (torch.randn(1024).bfloat16() for _ in range(3))

    with interpret():
        arithmetic_kernel[(1,)](x, y, out, SIZE=1024)

    torch.testing.assert_close(out, torch.where(x > y, x * 2 + y, -x), rtol=0, atol=0)


def test_cast_to_bfloat16_rounds_to_nearest_even() -> None:
    bits = torch.randint(-(2**31), 2**31, (4096,), dtype=torch.int64).to(torch.int32)
    x = torch.cat([bits.view(torch.float32), torch.tensor([1.00390625, 1.01171875, torch.inf])])
    x = torch.nn.functional.pad(x, (0, 8192 - x.numel()))
    out = torch.empty(8192, dtype=torch.bfloat16)

    with interpret():
        cast_kernel[(1,)](x, out, SIZE=8192)

    torch.testing.assert_close(out, x.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_cast_from_bfloat16_is_exact() -> None:
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    out = torch.empty(2**16)

    with interpret():
        cast_kernel[(1,)](x, out, SIZE=2**16)

    torch.testing.assert_close(out, x.float(), rtol=0, atol=0, equal_nan=True)


def test_kernel_compiles_after_it_was_interpreted() -> None:
    a, b, out = (square(torch.bfloat16) for _ in range(3))

    with interpret():
        multiply_kernel[(1,)](a, b, out, SIZE=32)
    compiled = compile_for(80, multiply_kernel, a, b, out, SIZE=32)

    assert "mma.sync" in compiled.asm["ptx"]


def test_device_function_compiles_after_it_was_interpreted() -> None:
    x, y, out = (torch.randn(1024).bfloat16() for _ in range(3))

    with interpret():
        arithmetic_kernel[(1,)](x, y, out, SIZE=1024)
    compiled = compile_for(90, arithmetic_kernel, x, y, out, SIZE=1024)

    assert ".target sm_90" in compiled.asm["ptx"]


def test_kernel_decorated_inside_stays_compilable() -> None:
    with interpret():
        kernel = triton.jit(cast_kernel.fn)
    compiled = compile_for(80, kernel, torch.zeros(64), torch.zeros(64), SIZE=64)

    assert ".target sm_80" in compiled.asm["ptx"]


def test_interpreter_is_off_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), interpret():
        _ = 1 / 0

    assert not triton.knobs.runtime.interpret
