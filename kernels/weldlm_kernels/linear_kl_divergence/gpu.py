"""linear_kl_divergence on a GPU: GEMMs by PyTorch, loss and gradient of a chunk in one Triton pass.

Rows that the mask leaves out cost their GEMMs but give neither loss nor gradient: leaving them out
would need their number on the host.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from weldlm_kernels.projection import logits_buffer, project, project_in_chunks, split_rows
from weldlm_kernels.vocabulary_rows import LOWEST, add_exponentials, load_logits

__all__ = ["linear_kl_divergence"]

# bytes of logits, the teacher's among them, in a chunk: as those of linear_cross_entropy
CHUNK_BYTES = 512 * 2**20
ROW_MULTIPLE = 128  # whole GEMM tiles

# logits of each model that a program holds at a time: 16 a thread, of short rows too, since with 8
# a thread Triton 3.6 spills in fp32 on sm_80
BLOCK_SIZE = 2048
NUM_WARPS = 4


@triton.jit
def kl_divergence_kernel(
    logits_ptr,  # [num_rows, row_stride] of the student, vocab_size of which count
    teacher_logits_ptr,  # [num_rows, row_stride]
    row_weights_ptr,  # [num_rows] or None; 0 for rows that are left out
    losses_ptr,  # [num_rows] fp32
    vocab_size,
    row_stride,
    inverse_temperature,
    BLOCK_SIZE: tl.constexpr,
    WITH_GRADIENT: tl.constexpr,  # overwrite the student's logits with the gradient of the loss
):
    row = tl.program_id(0).to(tl.int64)

    row_ptr = logits_ptr + row * row_stride
    teacher_row_ptr = teacher_logits_ptr + row * row_stride

    row_weight = 1.0
    if row_weights_ptr is not None:
        row_weight = tl.load(row_weights_ptr + row).to(tl.float32)

    maximum = tl.full((), LOWEST, tl.float32)
    teacher_maximum = tl.full((), LOWEST, tl.float32)
    total = tl.full((), 0.0, tl.float32)
    teacher_total = tl.full((), 0.0, tl.float32)
    for start in range(0, vocab_size, BLOCK_SIZE):
        columns = start + tl.arange(0, BLOCK_SIZE)
        logits = load_logits(row_ptr, columns, vocab_size, row_stride, None)
        teacher_logits = load_logits(teacher_row_ptr, columns, vocab_size, row_stride, None)
        maximum, total = add_exponentials(maximum, total, logits * inverse_temperature)
        teacher_maximum, teacher_total = add_exponentials(
            teacher_maximum, teacher_total, teacher_logits * inverse_temperature
        )
    log_sum = tl.log(total)
    teacher_log_sum = tl.log(teacher_total)

    loss = tl.full((), 0.0, tl.float32)
    for start in range(0, vocab_size, BLOCK_SIZE):
        columns = start + tl.arange(0, BLOCK_SIZE)
        logits = load_logits(row_ptr, columns, vocab_size, row_stride, None)
        teacher_logits = load_logits(teacher_row_ptr, columns, vocab_size, row_stride, None)
        log_q = (logits * inverse_temperature - maximum) - log_sum
        log_p = (teacher_logits * inverse_temperature - teacher_maximum) - teacher_log_sum
        p = tl.exp(log_p)
        difference = tl.exp(log_q) - p
        # the differences sum to 0 and cancel what the rounding of both log_sum would add
        loss += tl.sum(tl.where(p > 0, p * (log_p - log_q), 0.0) + difference, axis=0)
        if WITH_GRADIENT:
            gradient = difference * (inverse_temperature * row_weight)
            gradient = tl.where(row_weight != 0, gradient, 0.0)
            tl.store(row_ptr + columns, gradient, mask=columns < row_stride)

    tl.store(losses_ptr + row, tl.where(row_weight != 0, loss * row_weight, 0.0))


def linear_kl_divergence(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    mask: Tensor | None,
    row_weights: Tensor | None,
    temperature: float,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns loss_sum, count and the gradients of the student's tensors."""
    num_rows, vocab_size = len(student_hidden), len(student_weight)
    teacher_weight = teacher_weight.to(teacher_hidden.dtype)
    losses = torch.empty(num_rows, dtype=torch.float32, device=student_hidden.device)
    if mask is not None:
        row_weights = mask.float() if row_weights is None else row_weights.where(mask, 0.0)
    row_weights = None if row_weights is None else row_weights.contiguous()
    chunks = split_rows(
        num_rows,
        (student_hidden.itemsize + teacher_hidden.itemsize) * vocab_size,
        most_bytes=CHUNK_BYTES,
        fewest_rows=ROW_MULTIPLE,
        multiple_of=ROW_MULTIPLE,
    )
    buffer = logits_buffer(teacher_hidden, vocab_size, chunks)

    def kl_divergence(logits: Tensor, rows: slice) -> None:
        out = buffer[: len(logits)]
        launch_kl_divergence(
            logits,
            project(teacher_hidden[rows], teacher_weight, None, out=out),
            None if row_weights is None else row_weights[rows],
            losses[rows],
            temperature,
            with_gradient=any(needs_grad),
        )

    grad_hidden, grad_weight, _ = project_in_chunks(
        student_hidden,
        student_weight.to(student_hidden.dtype),
        None,
        [*needs_grad, False],
        chunks,
        kl_divergence,
    )
    count = torch.ones_like(losses, dtype=torch.bool) if mask is None else mask
    return losses.sum(), count.sum(), grad_hidden, grad_weight.to(student_weight.dtype)


def launch_kl_divergence(
    logits: Tensor,
    teacher_logits: Tensor,
    row_weights: Tensor | None,
    losses: Tensor,
    temperature: float,
    *,
    with_gradient: bool,
) -> None:
    """Writes the loss of each row to `losses` and, if asked, its gradient over `logits`.

    Both logits [num_rows, vocab_size] have rows that are padded up to their stride.
    """
    num_rows, vocab_size = logits.shape
    kl_divergence_kernel[(num_rows,)](
        logits_ptr=logits,
        teacher_logits_ptr=teacher_logits,
        row_weights_ptr=row_weights,
        losses_ptr=losses,
        vocab_size=vocab_size,
        row_stride=logits.stride(0),
        inverse_temperature=1.0 / temperature,
        BLOCK_SIZE=BLOCK_SIZE,
        WITH_GRADIENT=with_gradient,
        num_warps=NUM_WARPS,
    )
