"""What the backward of attention begins with, in Triton.

With P = softmax(scale Q K^T), dP = dO V^T and delta = rowsum(dO * O): dS = P * (dP - delta),
dV = P^T dO, dK = scale dS^T Q, dQ = scale dS K (Dao et al. 2022, arXiv:2205.14135, appendix B.2).
P is computed anew from lse, once by keys (gpu_backward_kv.py, over all query heads of a group) and
once by rows (gpu_backward_q.py); programs are laid out as in the forward. There are no atomics, so
the result does not depend on timing. delta serves with dropout, too: O holds what was kept.
"""

import triton
import triton.language as tl

from weldlm_kernels.attention.gpu_tiles import load_rows, locate

__all__ = ["attention_bwd_delta_kernel"]


@triton.jit(do_not_specialize=["num_tokens"])
def attention_bwd_delta_kernel(
    grad_out_ptr,  # [T, H, Dv]
    out_ptr,  # [T, H, Dv], contiguous
    delta_ptr,  # [H, T], contiguous
    stride_gt,
    stride_gh,
    num_tokens,
    num_heads,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    block, head, _ = locate(tl.cdiv(num_tokens, BLOCK_M), num_heads)

    first = block * BLOCK_M
    tokens = first + tl.arange(0, BLOCK_M)
    grad_out_ptr += head * stride_gh
    out_ptr += head * VALUE_DIM
    stride_ot = num_heads * VALUE_DIM

    grad_out = load_rows(grad_out_ptr, first, num_tokens, stride_gt, True, BLOCK_M, VALUE_DIM)
    out = load_rows(out_ptr, first, num_tokens, stride_ot, True, BLOCK_M, VALUE_DIM)

    delta = tl.sum(grad_out.to(tl.float32) * out.to(tl.float32), axis=1)

    tl.store(delta_ptr + head * num_tokens + tokens, delta, mask=tokens < num_tokens)
