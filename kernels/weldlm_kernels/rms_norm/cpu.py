"""rms_norm on a CPU: fp32 rows in C++, threads over blocks of rows."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.row_buffers import fp32, fp32_factor

__all__ = ["rms_norm", "rms_norm_backward"]

# rows whose gradients of weight are summed before they join the others; fixed, so that the
# result does not depend on the number of threads
ROWS_PER_BLOCK = 32


def rms_norm(
    x: Tensor, weight: Tensor | None, residual: Tensor | None, eps: float, weight_offset: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y, the stream (empty without residual), rstd [rows]; `x` is fp32."""
    if residual is not None and residual.dtype != torch.float32:
        # the stream is rounded to the dtype of residual before it is normalized
        stream = (x + residual).to(residual.dtype)
        y, _, rstd = rms_norm(stream.float(), weight, None, eps, weight_offset)
        return y, stream, rstd
    hidden_size = x.shape[-1]
    x, factor = fp32(x), fp32_factor(weight, hidden_size, weight_offset)
    rows = x.numel() // hidden_size
    y, rstd = torch.empty_like(x), x.new_empty(rows)
    if residual is None:
        stream = x.new_empty(0)
    else:
        residual, stream = fp32(residual), torch.empty_like(x)
    _cpu.rms_norm(
        x.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        factor.data_ptr(),
        y.data_ptr(),
        0 if residual is None else stream.data_ptr(),
        rstd.data_ptr(),
        rows,
        hidden_size,
        eps,
    )
    return y, stream, rstd


def rms_norm_backward(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    rstd: Tensor,
    weight_offset: float,
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of the stream and of weight ([0] if None)."""
    rows, hidden_size = rstd.numel(), stream.shape[-1]
    grad_y, s = fp32(grad_y), fp32(stream)
    factor = fp32_factor(weight, hidden_size, weight_offset)
    grad_stream = None if grad_stream is None else fp32(grad_stream)
    grad_s = torch.empty_like(s)
    block_sums = s.new_empty(-(-rows // ROWS_PER_BLOCK), hidden_size)
    grad_weight = torch.empty_like(factor)
    _cpu.rms_norm_backward(
        grad_y.data_ptr(),
        0 if grad_stream is None else grad_stream.data_ptr(),
        s.data_ptr(),
        factor.data_ptr(),
        rstd.data_ptr(),
        grad_s.data_ptr(),
        block_sums.data_ptr(),
        grad_weight.data_ptr(),
        rows,
        hidden_size,
        ROWS_PER_BLOCK,
    )
    grad_weight = rstd.new_empty(0) if weight is None else grad_weight.to(weight.dtype)
    return grad_s.to(stream.dtype), grad_weight
