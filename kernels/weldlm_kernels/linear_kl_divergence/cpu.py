"""linear_kl_divergence on a CPU, in PyTorch, a chunk of rows at a time.

Rows that the mask leaves out are dropped before the first GEMM.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from weldlm_kernels.projection import logits_buffer, project, project_in_chunks, split_rows

__all__ = ["linear_kl_divergence"]

# bytes of logits in a chunk, as those of linear_cross_entropy
CHUNK_BYTES = 32 * 2**20
FEWEST_ROWS = 64


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
    rows_in = torch.arange(num_rows) if mask is None else mask.nonzero().squeeze(1)
    count = len(rows_in)
    teacher_rows = teacher_hidden.index_select(0, rows_in)
    teacher_weight = teacher_weight.to(teacher_hidden.dtype)
    factors = torch.ones(count) if row_weights is None else row_weights.index_select(0, rows_in)
    losses = torch.empty(count, dtype=torch.float64)
    chunks = split_rows(
        count,
        (student_hidden.itemsize + teacher_hidden.itemsize) * vocab_size,
        most_bytes=CHUNK_BYTES,
        fewest_rows=FEWEST_ROWS,
    )
    buffer = logits_buffer(teacher_rows, vocab_size, chunks)

    def kl_divergence(logits: Tensor, rows: slice) -> None:
        teacher_logits = project(
            teacher_rows[rows], teacher_weight, None, out=buffer[: len(logits)]
        )
        log_p = (teacher_logits.float() / temperature).log_softmax(dim=1)
        log_q = (logits / temperature).log_softmax(dim=1)
        p = log_p.exp()
        terms = (p * (log_p - log_q)).masked_fill_(p == 0, 0.0)
        difference = log_q.exp_().sub_(p)
        # the differences sum to 0 and cancel what the rounding of both log_softmax would add
        losses[rows] = terms.add_(difference).sum(dim=1, dtype=torch.float64) * factors[rows]
        if any(needs_grad):
            torch.mul(difference, factors[rows, None].float() / temperature, out=logits)

    grad_rows, grad_weight, _ = project_in_chunks(
        student_hidden.index_select(0, rows_in),
        student_weight.to(student_hidden.dtype),
        None,
        [*needs_grad, False],
        chunks,
        kl_divergence,
    )
    grad_hidden = grad_rows
    if needs_grad[0]:
        grad_hidden = torch.zeros_like(student_hidden).index_copy_(0, rows_in, grad_rows)
    return (
        losses.sum().to(torch.float32),
        torch.tensor(count),
        grad_hidden,
        grad_weight.to(student_weight.dtype),
    )
