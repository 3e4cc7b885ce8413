"""rms_norm on a CPU: fp32 rows in C++, threads over blocks of rows."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu

__all__ = ["rms_norm", "rms_norm_backward"]

# rows whose gradients of weight are summed before they join the others; fixed, so that the
# result does not depend on the number of threads
ROWS_PER_BLOCK = 32


def rms_norm(
    x: Tensor, weight: Tensor, residual: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y, the stream (empty without residual), rstd [rows]; `x` is fp32."""
    if residual is not None and residual.dtype != torch.float32:
        # the stream is rounded to the dtype of residual before it is normalized
        stream = (x + residual).to(residual.dtype)
        y, _, rstd = rms_norm(stream.float(), weight, None, eps)
        return y, stream, rstd
    x, weight = _fp32(x), _fp32(weight)
    hidden_size = weight.shape[0]
    rows = x.numel() // hidden_size
    y, rstd = torch.empty_like(x), x.new_empty(rows)
    if residual is None:
        stream = x.new_empty(0)
    else:
        residual, stream = _fp32(residual), torch.empty_like(x)
    _cpu.rms_norm(
        x.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        weight.data_ptr(),
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
    weight: Tensor,
    rstd: Tensor,
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of the stream and of weight."""
    grad_y, s, w = _fp32(grad_y), _fp32(stream), _fp32(weight)
    grad_stream = None if grad_stream is None else _fp32(grad_stream)
    rows, hidden_size = rstd.numel(), w.shape[0]
    grad_s = torch.empty_like(s)
    block_sums = s.new_empty(-(-rows // ROWS_PER_BLOCK), hidden_size)
    grad_weight = torch.empty_like(w)
    _cpu.rms_norm_backward(
        grad_y.data_ptr(),
        0 if grad_stream is None else grad_stream.data_ptr(),
        s.data_ptr(),
        w.data_ptr(),
        rstd.data_ptr(),
        grad_s.data_ptr(),
        block_sums.data_ptr(),
        grad_weight.data_ptr(),
        rows,
        hidden_size,
        ROWS_PER_BLOCK,
    )
    return grad_s.to(stream.dtype), grad_weight.to(weight.dtype)


def _fp32(x: Tensor) -> Tensor:
    return x.float().contiguous()
