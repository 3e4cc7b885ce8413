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

from weldlm_kernels.linear_cross_entropy.options import LossOptions
from weldlm_kernels.projection import project_in_chunks, split_rows
from weldlm_kernels.vocabulary_rows import (
    LOWEST,
    add_exponentials,
    load_logits,
    row_block,
    tanh,
)

__all__ = ["linear_cross_entropy"]

# bytes of logits in a chunk: the larger, the fewer passes over the fp32 gradient of the weight
CHUNK_BYTES = 512 * 2**20
ROW_MULTIPLE = 128  # whole GEMM tiles

# logits that a program holds at a time, at most and for each warp. At 32 a thread the registers (56
# to 89) leave room for two to four programs on a multiprocessor, which load while another waits for
# its reduction; with options there would be one, or spills.
PLAIN_BLOCK = (8192, 1024)
OPTIONS_BLOCK = (4096, 512)


@triton.jit
def cross_entropy_kernel(
    logits_ptr,  # [num_rows, row_stride], vocab_size of which count
    targets_ptr,  # [num_rows] int64
    row_weights_ptr,  # [num_rows] or None
    losses_ptr,  # [num_rows] fp32
    is_correct_ptr,  # [num_rows] int32 or None
    vocab_size,
    row_stride,
    ignore_index,
    label_smoothing,  # None for 0
    z_loss,  # None for 0
    softcap,  # or None
    BLOCK_SIZE: tl.constexpr,
    WITH_GRADIENT: tl.constexpr,  # overwrite logits with the gradient of the loss
):
    row = tl.program_id(0).to(tl.int64)

    row_ptr = logits_ptr + row * row_stride

    target = tl.load(targets_ptr + row)
    is_labelled = target != ignore_index
    is_inside = (target >= 0) & (target < vocab_size)
    target_logit = tl.load(row_ptr + target, mask=is_inside, other=0.0).to(tl.float32)
    if softcap is not None:
        target_logit = softcap * tanh(target_logit / softcap)
    if row_weights_ptr is not None:
        row_weight = tl.load(row_weights_ptr + row).to(tl.float32)

    maximum = tl.full((), LOWEST, tl.float32)
    total = tl.full((), 0.0, tl.float32)
    above_target = tl.full((), 0.0, tl.float32)  # sum(logits - logits[target])
    num_better = tl.full((), 0, tl.int32)  # tokens before the target in descending order
    for start in range(0, vocab_size, BLOCK_SIZE):
        columns = start + tl.arange(0, BLOCK_SIZE)
        logits = load_logits(row_ptr, columns, vocab_size, row_stride, softcap)
        maximum, total = add_exponentials(maximum, total, logits)
        if label_smoothing is not None:
            above_target += tl.sum(tl.where(columns < vocab_size, logits - target_logit, 0.0), 0)
        if is_correct_ptr is not None:
            is_worse = (logits < target_logit) | ((logits == target_logit) & (columns >= target))
            num_better += tl.sum(tl.where(is_worse, 0, 1), 0)
    log_sum = tl.log(total)
    loss = log_sum + (maximum - target_logit)
    if label_smoothing is not None:
        loss -= label_smoothing * above_target / vocab_size
    if z_loss is not None:
        log_sum_exp = maximum + log_sum
        loss += z_loss * log_sum_exp * log_sum_exp
    if row_weights_ptr is not None:
        loss *= row_weight

    tl.store(losses_ptr + row, tl.where(is_labelled, loss, 0.0))
    if is_correct_ptr is not None:
        tl.store(is_correct_ptr + row, (is_labelled & (num_better == 0)).to(tl.int32))
    if WITH_GRADIENT:
        for start in range(0, vocab_size, BLOCK_SIZE):
            columns = start + tl.arange(0, BLOCK_SIZE)
            logits = load_logits(row_ptr, columns, vocab_size, row_stride, softcap)
            softmax = tl.exp((logits - maximum) - log_sum)
            gradient = tl.where(columns == target, softmax - 1.0, softmax)
            if label_smoothing is not None:
                spread = label_smoothing / vocab_size
                gradient += tl.where(columns == target, label_smoothing - spread, -spread)
            if z_loss is not None:
                gradient += 2.0 * z_loss * log_sum_exp * softmax
            if softcap is not None:
                gradient *= 1.0 - (logits / softcap) * (logits / softcap)
            if row_weights_ptr is not None:
                gradient *= row_weight
            gradient = tl.where(is_labelled, gradient, 0.0)
            tl.store(row_ptr + columns, gradient, mask=columns < row_stride)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    row_weights: Tensor | None,
    options: LossOptions,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns loss_sum, count, num_correct ([0] if not counted) and the gradients."""
    targets = targets.contiguous()
    row_weights = None if row_weights is None else row_weights.contiguous()
    losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
    is_correct = torch.empty_like(targets, dtype=torch.int32) if options.counts_correct else None

    def cross_entropy(logits: Tensor, rows: slice) -> None:
        launch_cross_entropy(
            logits,
            targets[rows],
            None if row_weights is None else row_weights[rows],
            losses[rows],
            None if is_correct is None else is_correct[rows],
            options,
            with_gradient=any(needs_grad),
        )

    chunks = split_rows(
        len(targets),
        hidden.itemsize * weight.shape[0],
        most_bytes=CHUNK_BYTES,
        fewest_rows=ROW_MULTIPLE,
        multiple_of=ROW_MULTIPLE,
    )
    grad_hidden, grad_weight, grad_bias = project_in_chunks(
        hidden,
        weight.to(hidden.dtype),
        None if bias is None else bias.to(hidden.dtype),
        needs_grad,
        chunks,
        cross_entropy,
    )
    return (
        losses.sum(),
        (targets != options.ignore_index).sum(),
        targets.new_empty(0) if is_correct is None else is_correct.sum(),
        grad_hidden,
        grad_weight.to(weight.dtype),
        grad_bias.to(weight.dtype if bias is None else bias.dtype),
    )


def launch_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    row_weights: Tensor | None,
    losses: Tensor,
    is_correct: Tensor | None,
    options: LossOptions,
    *,
    with_gradient: bool,
) -> None:
    """Writes the loss of each row to `losses` and, if asked, its gradient over `logits`.

    `logits` [num_rows, vocab_size] has rows that are padded up to their stride.
    """
    num_rows, vocab_size = logits.shape
    is_plain = options.is_plain and is_correct is None
    most, logits_per_warp = PLAIN_BLOCK if is_plain else OPTIONS_BLOCK
    block = row_block(vocab_size, most=most, logits_per_warp=logits_per_warp)
    cross_entropy_kernel[(num_rows,)](
        logits_ptr=logits,
        targets_ptr=targets,
        row_weights_ptr=row_weights,
        losses_ptr=losses,
        is_correct_ptr=is_correct,
        vocab_size=vocab_size,
        row_stride=logits.stride(0),
        ignore_index=options.ignore_index,
        label_smoothing=options.label_smoothing or None,
        z_loss=options.z_loss or None,
        softcap=options.softcap,
        BLOCK_SIZE=block.size,
        WITH_GRADIENT=with_gradient,
        num_warps=block.num_warps,
    )
