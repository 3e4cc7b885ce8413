"""The elementwise part of an MLP in Triton.

A program holds a tile of rows and columns. Where there is a bias, the backward keeps a fixed number
of programs that stride over the rows and sum its gradient in fp32, so the result does not depend on
the order in which programs run. All arithmetic is fp32, rounded once at the end.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from weldlm_kernels.philox_tiles import dropout_factor_tile
from weldlm_kernels.row_tiles import num_multiprocessors

__all__ = ["activate", "activate_backward", "activate_gated", "activate_gated_backward"]


@triton.jit
def activation_value(x, ACTIVATION: tl.constexpr):
    """activation(x), x fp32."""
    if ACTIVATION == "gelu":
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":
        # 0.5 (1 + tanh(z)) = sigmoid(2 z)
        y = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif ACTIVATION == "silu":
        y = x * tl.sigmoid(x)
    elif ACTIVATION == "relu":
        y = tl.where(x <= 0.0, 0.0, x)  # NaN stays
    else:
        y = tl.where(x <= 0.0, 0.0, x)
        y = y * y
    return y


@triton.jit
def activation_slope(x, ACTIVATION: tl.constexpr):
    """The derivative of activation at x, x fp32."""
    if ACTIVATION == "gelu":
        # Phi(x) + x phi(x), of the normal distribution
        slope = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
        slope += x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    elif ACTIVATION == "gelu_tanh":
        gate = tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
        inner = 1.5957691216057308 * (1.0 + 0.134145 * x * x)
        # the tail is 0 before x * inner could overflow
        tail = gate * (1.0 - gate)
        slope = gate + tl.where(tail == 0.0, 0.0, x * inner * tail)
    elif ACTIVATION == "silu":
        gate = tl.sigmoid(x)
        tail = gate * (1.0 - gate)
        slope = gate + tl.where(tail == 0.0, 0.0, x * tail)
    elif ACTIVATION == "relu":
        slope = tl.where(x <= 0.0, 0.0, 1.0)
    else:
        slope = 2.0 * tl.where(x <= 0.0, 0.0, x)
    return slope


@triton.jit
def load_biased(x_ptr, bias_ptr, offset, column, mask, is_column):
    """Loads x (+ bias) as fp32."""
    x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + column, mask=is_column, other=0.0).to(tl.float32)[None, :]
    return x


@triton.jit
def activate_fwd_kernel(
    x_ptr,  # [rows, width]
    bias_ptr,  # [width] or None
    seed_ptr,  # [1] or None
    y_ptr,  # [rows, width]
    rows,
    width,
    dropout_p,
    ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    first_column = tl.program_id(1) * BLOCK_N
    column = first_column + tl.arange(0, BLOCK_N)
    is_column = column < width
    mask = (row < rows)[:, None] & is_column[None, :]
    offset = row[:, None] * width + column[None, :]

    x = load_biased(x_ptr, bias_ptr, offset, column, mask, is_column)

    y = activation_value(x, ACTIVATION)
    if seed_ptr is not None:
        y *= dropout_factor_tile(tl.load(seed_ptr), row, first_column, dropout_p, BLOCK_N)

    tl.store(y_ptr + offset, y, mask=mask)


@triton.jit
def activate_gated_fwd_kernel(
    x_ptr,  # [rows, 2, width], gate and up
    bias_ptr,  # [2, width] or None
    seed_ptr,  # [1] or None
    y_ptr,  # [rows, width]
    rows,
    width,
    dropout_p,
    ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    first_column = tl.program_id(1) * BLOCK_N
    column = first_column + tl.arange(0, BLOCK_N)
    is_column = column < width
    mask = (row < rows)[:, None] & is_column[None, :]
    offset = row[:, None] * (2 * width) + column[None, :]

    gate = load_biased(x_ptr, bias_ptr, offset, column, mask, is_column)
    up = load_biased(x_ptr, bias_ptr, offset + width, column + width, mask, is_column)

    y = activation_value(gate, ACTIVATION) * up
    if seed_ptr is not None:
        y *= dropout_factor_tile(tl.load(seed_ptr), row, first_column, dropout_p, BLOCK_N)

    tl.store(y_ptr + row[:, None] * width + column[None, :], y, mask=mask)


@triton.jit
def activate_bwd_kernel(
    grad_y_ptr,  # [rows, width]
    x_ptr,  # [rows, width]
    bias_ptr,  # [width] or None
    seed_ptr,  # [1] or None
    grad_x_ptr,  # [rows, width]
    partial_ptr,  # [programs, width], sums for bias, None without
    rows,
    width,
    dropout_p,
    ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    first_column = tl.program_id(1) * BLOCK_N
    column = first_column + tl.arange(0, BLOCK_N)
    is_column = column < width

    grad_bias = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in tl.range(tl.program_id(0), tl.cdiv(rows, BLOCK_M), tl.num_programs(0)):
        row = tl.cast(block, tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (row < rows)[:, None] & is_column[None, :]
        offset = row[:, None] * width + column[None, :]
        x = load_biased(x_ptr, bias_ptr, offset, column, mask, is_column)
        grad = tl.load(grad_y_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        if seed_ptr is not None:
            grad *= dropout_factor_tile(tl.load(seed_ptr), row, first_column, dropout_p, BLOCK_N)
        grad *= activation_slope(x, ACTIVATION)
        tl.store(grad_x_ptr + offset, grad, mask=mask)
        if partial_ptr is not None:
            grad_bias += grad

    if partial_ptr is not None:
        partial = partial_ptr + tl.program_id(0).to(tl.int64) * width + column
        tl.store(partial, tl.sum(grad_bias, axis=0), mask=is_column)


@triton.jit
def activate_gated_bwd_kernel(
    grad_y_ptr,  # [rows, width]
    x_ptr,  # [rows, 2, width], gate and up
    bias_ptr,  # [2, width] or None
    seed_ptr,  # [1] or None
    grad_x_ptr,  # [rows, 2, width]
    partial_ptr,  # [programs, 2, width], sums for bias, None without
    rows,
    width,
    dropout_p,
    ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    first_column = tl.program_id(1) * BLOCK_N
    column = first_column + tl.arange(0, BLOCK_N)
    is_column = column < width

    grad_gate_bias = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    grad_up_bias = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in tl.range(tl.program_id(0), tl.cdiv(rows, BLOCK_M), tl.num_programs(0)):
        row = tl.cast(block, tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (row < rows)[:, None] & is_column[None, :]
        offset = row[:, None] * (2 * width) + column[None, :]
        gate = load_biased(x_ptr, bias_ptr, offset, column, mask, is_column)
        up = load_biased(x_ptr, bias_ptr, offset + width, column + width, mask, is_column)
        grad_y = grad_y_ptr + row[:, None] * width + column[None, :]
        grad = tl.load(grad_y, mask=mask, other=0.0).to(tl.float32)
        if seed_ptr is not None:
            grad *= dropout_factor_tile(tl.load(seed_ptr), row, first_column, dropout_p, BLOCK_N)
        grad_up = grad * activation_value(gate, ACTIVATION)
        grad_gate = grad * up * activation_slope(gate, ACTIVATION)
        tl.store(grad_x_ptr + offset, grad_gate, mask=mask)
        tl.store(grad_x_ptr + offset + width, grad_up, mask=mask)
        if partial_ptr is not None:
            grad_gate_bias += grad_gate
            grad_up_bias += grad_up

    if partial_ptr is not None:
        partial = partial_ptr + tl.program_id(0).to(tl.int64) * (2 * width) + column
        tl.store(partial, tl.sum(grad_gate_bias, axis=0), mask=is_column)
        tl.store(partial + width, tl.sum(grad_up_bias, axis=0), mask=is_column)


# 16 elements a thread of 4 warps in forward and 8 in backward, by what compiles without a spill for
# each activation and dropout (tests/kernels/gate_gated_mlp.py). Not yet timed on a GPU.
_WARPS = 4
_FORWARD_ELEMENTS = 2048
_BACKWARD_ELEMENTS = 1024
_WIDEST_TILE = 1024
# programs of a backward that sums over rows, for each multiprocessor
_RESIDENT = 4


def _tile(width: int, elements: int) -> tuple[int, int]:
    """BLOCK_M and BLOCK_N; at least 32 columns, so that narrow rows fill their warps."""
    columns = min(_WIDEST_TILE, max(32, triton.next_power_of_2(width)))
    return elements // columns, columns


def activate(
    x: Tensor, bias: Tensor | None, seed: Tensor | None, activation: str, dropout_p: float
) -> Tensor:
    """Launches the forward without a gate."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _launch_forward(activate_fwd_kernel, x, bias, seed, y, activation, dropout_p)
    return y


def activate_gated(
    x: Tensor, bias: Tensor | None, seed: Tensor | None, activation: str, dropout_p: float
) -> Tensor:
    """Launches the forward with a gate."""
    y = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    _launch_forward(activate_gated_fwd_kernel, x, bias, seed, y, activation, dropout_p)
    return y


def activate_backward(
    grad_y: Tensor,
    x: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    activation: str,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """Launches the backward without a gate; returns the gradients of x and of bias."""
    return _launch_backward(activate_bwd_kernel, grad_y, x, bias, seed, activation, dropout_p)


def activate_gated_backward(
    grad_y: Tensor,
    x: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    activation: str,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """Launches the backward with a gate; returns the gradients of x and of bias."""
    return _launch_backward(activate_gated_bwd_kernel, grad_y, x, bias, seed, activation, dropout_p)


def _launch_forward(
    kernel, x: Tensor, bias: Tensor | None, seed: Tensor | None, y: Tensor, activation, dropout_p
) -> None:
    width = y.shape[-1]
    rows = y.numel() // width
    block_m, block_n = _tile(width, _FORWARD_ELEMENTS)
    grid = (triton.cdiv(rows, block_m), triton.cdiv(width, block_n))
    if rows == 0:
        return
    with torch.cuda.device_of(x):
        kernel[grid](
            x_ptr=x.contiguous(),
            bias_ptr=None if bias is None else bias.contiguous(),
            seed_ptr=seed,
            y_ptr=y,
            rows=rows,
            width=width,
            dropout_p=dropout_p,
            ACTIVATION=activation,
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            num_warps=_WARPS,
        )


def _launch_backward(
    kernel,
    grad_y: Tensor,
    x: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    activation,
    dropout_p,
) -> tuple[Tensor, Tensor]:
    width = grad_y.shape[-1]
    rows = grad_y.numel() // width
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    block_m, block_n = _tile(width, _BACKWARD_ELEMENTS)
    programs, columns = triton.cdiv(rows, block_m), triton.cdiv(width, block_n)
    partial = None
    if bias is not None:
        resident = triton.cdiv(_RESIDENT * num_multiprocessors(x.device), columns)
        programs = min(programs, resident)
        partial = x.new_empty(programs, x.shape[-1], dtype=torch.float32)
    if rows > 0:
        with torch.cuda.device_of(x):
            kernel[(programs, columns)](
                grad_y_ptr=grad_y.contiguous(),
                x_ptr=x.contiguous(),
                bias_ptr=None if bias is None else bias.contiguous(),
                seed_ptr=seed,
                grad_x_ptr=grad_x,
                partial_ptr=partial,
                rows=rows,
                width=width,
                dropout_p=dropout_p,
                ACTIVATION=activation,
                BLOCK_M=block_m,
                BLOCK_N=block_n,
                num_warps=_WARPS,
            )
    if bias is None or partial is None:
        return grad_x, x.new_empty(0)
    return grad_x, partial.sum(dim=0).to(bias.dtype)
