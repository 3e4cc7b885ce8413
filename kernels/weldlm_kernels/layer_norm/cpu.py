"""layer_norm on a CPU: fp32 rows in C++, threads over blocks of rows."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.row_buffers import fp32, fp32_factor

__all__ = ["layer_norm", "layer_norm_backward"]

# rows whose gradients of weight and bias are summed before they join the others; fixed, so that the
# result does not depend on the number of threads
ROWS_PER_BLOCK = 32


def layer_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    weight_offset: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns y, the stream (empty without residual), mean and rstd [rows]; `x` is fp32."""
    if residual is not None and residual.dtype != torch.float32:
        # the stream is rounded to the dtype of residual before it is normalized
        stream = (x + residual).to(residual.dtype)
        y, _, mean, rstd = layer_norm(stream.float(), weight, bias, None, eps, weight_offset)
        return y, stream, mean, rstd
    hidden_size = x.shape[-1]
    x, factor = fp32(x), fp32_factor(weight, hidden_size, weight_offset)
    bias = None if bias is None else fp32(bias)
    rows = x.numel() // hidden_size
    y, mean, rstd = torch.empty_like(x), x.new_empty(rows), x.new_empty(rows)
    if residual is None:
        stream = x.new_empty(0)
    else:
        residual, stream = fp32(residual), torch.empty_like(x)
    _cpu.layer_norm(
        x.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        factor.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        y.data_ptr(),
        0 if residual is None else stream.data_ptr(),
        mean.data_ptr(),
        rstd.data_ptr(),
        rows,
        hidden_size,
        eps,
    )
    return y, stream, mean, rstd


def layer_norm_backward(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    weight_offset: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of the stream, of weight and of bias."""
    rows, hidden_size = rstd.numel(), stream.shape[-1]
    grad_y, s = fp32(grad_y), fp32(stream)
    factor = fp32_factor(weight, hidden_size, weight_offset)
    grad_stream = None if grad_stream is None else fp32(grad_stream)
    grad_s = torch.empty_like(s)
    block_sums = s.new_empty(-(-rows // ROWS_PER_BLOCK), 2, hidden_size)
    grad_weight, grad_bias = torch.empty_like(factor), torch.empty_like(factor)
    _cpu.layer_norm_backward(
        grad_y.data_ptr(),
        0 if grad_stream is None else grad_stream.data_ptr(),
        s.data_ptr(),
        factor.data_ptr(),
        mean.data_ptr(),
        rstd.data_ptr(),
        grad_s.data_ptr(),
        block_sums.data_ptr(),
        grad_weight.data_ptr(),
        grad_bias.data_ptr(),
        rows,
        hidden_size,
        ROWS_PER_BLOCK,
    )
    dtype = torch.float32 if weight is None else weight.dtype
    return grad_s.to(stream.dtype), grad_weight.to(dtype), grad_bias.to(dtype)
