"""What losses over a vocabulary share on a CPU and a GPU: the GEMMs of each chunk of rows.

One buffer holds the logits of a chunk; the loss turns them into their gradient in place, and the
gradients of hidden, weight and bias are taken from it before the next chunk.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["logits_buffer", "project", "project_in_chunks", "split_rows"]

# Rows of logits start a multiple of this many elements apart. Without, the 50257 tokens of GPT-2
# slow the GEMMs by 14 % on an AVX2 core, and keep Triton from loading 128 bits at a time.
STRIDE_MULTIPLE = 64


def split_rows(
    num_rows: int, row_bytes: int, *, most_bytes: int, fewest_rows: int, multiple_of: int = 1
) -> list[slice]:
    """Cuts rows into chunks of equal size, up to `multiple_of`, that are within `most_bytes`.

    A chunk has at least `fewest_rows`, a multiple of `multiple_of`, whatever their bytes.
    """
    most_rows = most_bytes // max(1, row_bytes) // multiple_of * multiple_of
    num_chunks = max(1, -(-num_rows // max(fewest_rows, most_rows)))
    size = -(-num_rows // (num_chunks * multiple_of)) * multiple_of
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, max(1, size))]


def project_in_chunks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    needs_grad: Sequence[bool],
    chunks: list[slice],
    loss_of_chunk: Callable[[Tensor, slice], None],
) -> tuple[Tensor, Tensor, Tensor]:
    """Projects each chunk of rows and gathers the gradients of its summed loss.

    Args:
        hidden: [N, hidden_size].
        weight: [vocab_size, hidden_size] in the dtype of `hidden`, as is `bias`.
        needs_grad: whether to gather the gradients of hidden, weight and bias.
        chunks: rows of the chunks, from `split_rows`.
        loss_of_chunk: `(logits, rows)`, keeps the losses of these rows and, if any gradient is
            needed, overwrites logits [rows, vocab_size] with it. Rows are padded to their stride.

    Returns:
        grad_hidden in the dtype of `hidden`, grad_weight and grad_bias in fp32; [0] if not needed.
    """
    vocab_size = weight.shape[0]
    buffer = logits_buffer(hidden, vocab_size, chunks)
    needs_hidden, needs_weight, needs_bias = needs_grad
    grad_hidden = torch.empty_like(hidden) if needs_hidden else hidden.new_empty(0)
    # sums over all rows keep fp32: 16 bits lose the small terms
    grad_weight = torch.zeros_like(weight if needs_weight else hidden[:0, 0], dtype=torch.float32)
    grad_bias = hidden.new_zeros(vocab_size if needs_bias else 0, dtype=torch.float32)
    for rows in chunks:
        logits = project(hidden[rows], weight, bias, out=buffer[: rows.stop - rows.start])
        loss_of_chunk(logits, rows)
        if needs_hidden:
            torch.mm(logits, weight, out=grad_hidden[rows])
        if needs_weight:
            _add_product(grad_weight, logits.T, hidden[rows])
        if needs_bias:
            grad_bias += logits.sum(0, dtype=torch.float32)
    return grad_hidden, grad_weight, grad_bias


def logits_buffer(hidden: Tensor, vocab_size: int, chunks: list[slice]) -> Tensor:
    """Returns room for the logits of the longest chunk, in the dtype of `hidden`."""
    most_rows = max((rows.stop - rows.start for rows in chunks), default=0)
    stride = -(-vocab_size // STRIDE_MULTIPLE) * STRIDE_MULTIPLE
    return hidden.new_empty(most_rows, stride)[:, :vocab_size]


def project(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, out: Tensor) -> Tensor:
    """Writes hidden @ weight.T (+ bias) to `out` and returns it."""
    if bias is None:
        return torch.mm(hidden, weight.T, out=out)
    return torch.addmm(bias, hidden, weight.T, out=out)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b in fp32, where `a` and `b` may have 16 bits."""
    if a.dtype == torch.float32 or not a.is_cuda:
        total.addmm_(a.float(), b.float())
    else:
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
