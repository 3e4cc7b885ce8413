"""layer_norm on a CPU: fp32 rows in C++, threads over blocks of rows."""

import torch
from torch import Tensor

from weldlm_kernels import _cpu

__all__ = ["layer_norm", "layer_norm_backward"]

# rows whose gradients of weight and bias are summed before they join the others; fixed, so that the
# result does not depend on the number of threads
ROWS_PER_BLOCK = 32


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns y, the stream (empty without residual), mean and rstd [rows]; `x` is fp32."""
    if residual is not None and residual.dtype != torch.float32:
        # the stream is rounded to the dtype of residual before it is normalized
        stream = (x + residual).to(residual.dtype)
        y, _, mean, rstd = layer_norm(stream.float(), weight, bias, None, eps)
        return y, stream, mean, rstd
    x, weight = _fp32(x), _fp32(weight)
    bias = None if bias is None else _fp32(bias)
    hidden_size = weight.shape[0]
    rows = x.numel() // hidden_size
    y, mean, rstd = torch.empty_like(x), x.new_empty(rows), x.new_empty(rows)
    if residual is None:
        stream = x.new_empty(0)
    else:
        residual, stream = _fp32(residual), torch.empty_like(x)
    _cpu.layer_norm(
        x.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        weight.data_ptr(),
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
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of the stream, of weight and of bias."""
    grad_y, s, w = _fp32(grad_y), _fp32(stream), _fp32(weight)
    grad_stream = None if grad_stream is None else _fp32(grad_stream)
    rows, hidden_size = rstd.numel(), w.shape[0]
    grad_s = torch.empty_like(s)
    block_sums = s.new_empty(-(-rows // ROWS_PER_BLOCK), 2, hidden_size)
    grad_weight, grad_bias = torch.empty_like(w), torch.empty_like(w)
    _cpu.layer_norm_backward(
        grad_y.data_ptr(),
        0 if grad_stream is None else grad_stream.data_ptr(),
        s.data_ptr(),
        w.data_ptr(),
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
    return grad_s.to(stream.dtype), grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


def _fp32(x: Tensor) -> Tensor:
    return x.float().contiguous()
