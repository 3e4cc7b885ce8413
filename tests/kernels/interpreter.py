"""Runs Triton kernels on CPU tensors, in a process that can also compile them.

Triton's own switch (TRITON_INTERPRET=1) decides when a kernel is decorated, after which the process
cannot compile it. Here `JITFunction` is redirected when it is called instead. bfloat16 is mended
on the way: Triton 3.6-3.9 multiply its raw bits in `tl.dot` and truncate casts to it.

Programs run one after the other, so a race or a deadlock stays invisible; fp8 and tf32 are not
faithful.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import triton
import triton.language as tl
from triton.runtime import interpreter as stock
from triton.runtime.jit import JITFunction

__all__ = ["interpret"]

_MISSING = object()
_InterpretedFunction = stock.InterpretedFunction


@contextmanager
def interpret() -> Iterator[None]:
    """Makes every launch of a Triton kernel run in the interpreter until the block ends.

    Combine with `weldlm_kernels.use_backend("gpu")` to send an operation on CPU tensors there.
    """
    if triton.knobs.runtime.interpret:
        yield
        return
    launch = _Launch()
    _mend_bfloat16()
    with ExitStack() as stack:
        stack.enter_context(launch.restored_language())
        stack.enter_context(mock.patch.object(JITFunction, "run", launch.run))
        stack.enter_context(mock.patch.object(JITFunction, "__call__", launch.call))
        # a module of kernels that is first imported inside the block must stay compilable
        stack.enter_context(mock.patch.object(stock, "InterpretedFunction", JITFunction))
        # looks for overflow in each integer operation, reports it to nobody, takes half the time
        options = replace(stock.interpreter_builder.options, sanitize_overflow=False)
        stack.enter_context(mock.patch.object(stock.interpreter_builder, "options", options))
        stack.enter_context(triton.knobs.runtime.scope())
        triton.knobs.runtime.interpret = True
        yield


class _Launch:
    """Stands in for two methods of `JITFunction` and undoes what the interpreter leaves behind."""

    def __init__(self) -> None:
        self._is_patched = False

        def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
            self._is_patched = False
            return _interpreted(kernel.fn).run(*args, grid=grid, warmup=warmup, **kwargs)

        def call(function: Any, *args: Any, **kwargs: Any) -> Any:
            # stock code patches triton.language anew in every call of a device function; once a
            # launch is enough and takes half the time
            if not self._is_patched:
                stock._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
                self._is_patched = True
            return _interpreted(function.fn).rewrite()(*args, **kwargs)

        self.run, self.call = run, call

    @contextmanager
    def restored_language(self) -> Iterator[None]:
        """Records what the block changes in triton.language, which stock code does not restore."""
        originals: dict[tuple[int, str], tuple[Any, Any]] = {}
        set_attr = stock._LangPatchScope.set_attr

        def record(scope: Any, owner: Any, name: str, value: Any) -> None:
            original = owner.__dict__.get(name, _MISSING)
            originals.setdefault((id(owner), name), (owner, original))
            set_attr(scope, owner, name, value)

        with mock.patch.object(stock._LangPatchScope, "set_attr", record):
            try:
                yield
            finally:
                for (_, name), (owner, original) in originals.items():
                    _restore(owner, name, original)


def _restore(owner: Any, name: str, original: Any) -> None:
    if original is not _MISSING:
        setattr(owner, name, original)
    elif name in owner.__dict__:
        delattr(owner, name)


@cache
def _interpreted(function: Callable[..., Any]) -> Any:
    return _InterpretedFunction(function)


@cache
def _mend_bfloat16() -> None:
    """Replaces the parts of the interpreter that take bfloat16 for the uint16 it is stored in."""
    builder = stock.InterpreterBuilder
    convert_float, create_dot = stock._convert_float, builder.create_dot

    def convert(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        if source == tl.float32 and target == tl.bfloat16 and _is_nearest(rounding):
            return _round_to_bfloat16(data)
        if source == tl.bfloat16 and target == tl.float32:
            return _widen(data).view(np.uint32)
        return convert_float(data, source, target, rounding)

    def dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return create_dot(self, _to_float32(a), _to_float32(b), *rest)

    def get_bf16(_: Any, value: float) -> Any:
        return stock.TensorHandle(_round_to_bfloat16(np.array([value], np.float32)), tl.bfloat16)

    stock._convert_float, builder.create_dot, builder.get_bf16 = convert, dot, get_bf16
    for name in ("unary_op", "binary_op", "create_fma"):
        setattr(builder, name, _in_float32(getattr(builder, name)))


def _in_float32(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps an operation of the builder: bfloat16 in, fp32 arithmetic, bfloat16 out."""

    def wrapped(self: Any, *operands: Any) -> Any:
        if not any(_is_bfloat16(operand) for operand in operands):
            return method(self, *operands)
        result = method(self, *(_to_float32(operand) for operand in operands))
        if result.data.dtype == np.bool_:
            return result
        return stock.TensorHandle(_round_to_bfloat16(result.data), tl.bfloat16)

    return wrapped


def _is_bfloat16(operand: Any) -> bool:
    return isinstance(operand, stock.TensorHandle) and operand.dtype.scalar == tl.bfloat16


def _to_float32(operand: Any) -> Any:
    if not _is_bfloat16(operand):
        return operand
    return stock.TensorHandle(_widen(operand.data), tl.float32)


def _is_nearest(rounding: Any) -> bool:
    return rounding is None or rounding == stock._ir.ROUNDING_MODE.RTNE


def _widen(data: Any) -> Any:
    return (data.astype(np.uint32) << 16).view(np.float32)


def _round_to_bfloat16(data: Any) -> Any:
    """Rounds fp32 to the nearest bfloat16, ties to even, NaN to NaN; returns the bits as uint16."""
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    rounded = np.where(np.isnan(data), (bits >> 16) | 0x40, rounded)
    return rounded.astype(np.uint16).reshape(np.shape(data))
