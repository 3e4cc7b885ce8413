"""linear_cross_entropy on a GPU: GEMMs by PyTorch, loss and gradient of a chunk in one Triton pass.

Rows without a label cost their GEMM but give neither loss nor gradient: leaving them out would need
their number on the host. A target outside the vocabulary that is not `ignore_index` gives an
undefined loss and gradient, but nothing is read or written out of bounds.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from weldlm_kernels.linear_cross_entropy.chunks import project_in_chunks, split_rows

__all__ = ["linear_cross_entropy"]

# bytes of logits in a chunk: the larger, the fewer passes over the fp32 gradient of the weight
CHUNK_BYTES = 512 * 2**20
ROW_MULTIPLE = 128  # whole GEMM tiles

# logits that a program holds at a time; at 32 a thread the registers (56 to 89) leave room for two
# to four programs on a multiprocessor, which load while another waits for its reduction
MOST_LOGITS = 8192
LOGITS_PER_WARP = 1024


@triton.jit
def _load_logits(row_ptr, columns, vocab_size, row_stride):
    # a row is padded: masked at its stride, which is a multiple of 64, it is loaded in wide pieces
    logits = tl.load(row_ptr + columns, mask=columns < row_stride, other=0.0).to(tl.float32)
    return tl.where(columns < vocab_size, logits, float("-inf"))


@triton.jit
def _max_and_log_sum(row_ptr, vocab_size, row_stride, BLOCK_SIZE: tl.constexpr):
    """m = max(logits), log(sum(exp(logits - m))): one pass that rescales the sum as m grows."""
    # finite, so that a block of -inf does not give inf - inf
    maximum = tl.full((), -3.4028234663852886e38, tl.float32)
    total = tl.full((), 0.0, tl.float32)
    for start in range(0, vocab_size, BLOCK_SIZE):
        columns = start + tl.arange(0, BLOCK_SIZE)
        logits = _load_logits(row_ptr, columns, vocab_size, row_stride)
        previous = maximum
        maximum = tl.maximum(previous, tl.max(logits, axis=0))
        total = total * tl.exp(previous - maximum) + tl.sum(tl.exp(logits - maximum), axis=0)
    return maximum, tl.log(total)


@triton.jit
def cross_entropy_kernel(
    logits_ptr,  # [num_rows, row_stride], vocab_size of which count
    targets_ptr,  # [num_rows] int64
    losses_ptr,  # [num_rows] fp32
    vocab_size,
    row_stride,
    ignore_index,
    BLOCK_SIZE: tl.constexpr,
    WITH_GRADIENT: tl.constexpr,  # overwrite logits with softmax(logits) - onehot(target)
):
    row = tl.program_id(0).to(tl.int64)

    row_ptr = logits_ptr + row * row_stride

    target = tl.load(targets_ptr + row)
    is_inside = (target >= 0) & (target < vocab_size)
    target_logit = tl.load(row_ptr + target, mask=is_inside, other=0.0).to(tl.float32)

    maximum, log_sum = _max_and_log_sum(row_ptr, vocab_size, row_stride, BLOCK_SIZE)
    is_labelled = target != ignore_index
    loss = log_sum + (maximum - target_logit)

    tl.store(losses_ptr + row, tl.where(is_labelled, loss, 0.0))
    if WITH_GRADIENT:
        for start in range(0, vocab_size, BLOCK_SIZE):
            columns = start + tl.arange(0, BLOCK_SIZE)
            logits = _load_logits(row_ptr, columns, vocab_size, row_stride)
            softmax = tl.exp((logits - maximum) - log_sum)
            gradient = tl.where(columns == target, softmax - 1.0, softmax)
            gradient = tl.where(is_labelled, gradient, 0.0)
            tl.store(row_ptr + columns, gradient, mask=columns < row_stride)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    targets = targets.contiguous()
    losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)

    def cross_entropy(logits: Tensor, rows: slice) -> None:
        launch_cross_entropy(
            logits, targets[rows], losses[rows], ignore_index, with_gradient=any(needs_grad)
        )

    most_rows = CHUNK_BYTES // (hidden.itemsize * max(1, weight.shape[0]))
    grad_hidden, grad_weight, grad_bias = project_in_chunks(
        hidden,
        weight.to(hidden.dtype),
        None if bias is None else bias.to(hidden.dtype),
        needs_grad,
        split_rows(
            len(targets),
            most=max(ROW_MULTIPLE, most_rows // ROW_MULTIPLE * ROW_MULTIPLE),
            multiple_of=ROW_MULTIPLE,
        ),
        cross_entropy,
    )
    return (
        losses.sum(),
        (targets != ignore_index).sum(),
        grad_hidden,
        grad_weight.to(weight.dtype),
        grad_bias.to(weight.dtype if bias is None else bias.dtype),
    )


def launch_cross_entropy(
    logits: Tensor, targets: Tensor, losses: Tensor, ignore_index: int, *, with_gradient: bool
) -> None:
    """Writes the loss of each row to `losses` and, if asked, its gradient over `logits`.

    `logits` [num_rows, vocab_size] has rows that are padded up to their stride.
    """
    num_rows, vocab_size = logits.shape
    block_size = min(MOST_LOGITS, max(1024, triton.next_power_of_2(vocab_size)))
    cross_entropy_kernel[(num_rows,)](
        logits_ptr=logits,
        targets_ptr=targets,
        losses_ptr=losses,
        vocab_size=vocab_size,
        row_stride=logits.stride(0),
        ignore_index=ignore_index,
        BLOCK_SIZE=block_size,
        WITH_GRADIENT=with_gradient,
        num_warps=max(4, block_size // LOGITS_PER_WARP),
    )
