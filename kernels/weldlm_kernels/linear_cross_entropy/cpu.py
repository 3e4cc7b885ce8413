"""linear_cross_entropy on a CPU: GEMMs by PyTorch, loss and gradient of a chunk in one C++ pass.

Rows without a label are dropped before the first GEMM.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.linear_cross_entropy.chunks import project_in_chunks, split_rows

__all__ = ["linear_cross_entropy"]

# bytes of logits in a chunk: 16 to 32 MiB were the fastest of 2 to 128 MiB for vocabularies of
# 4096, 30522 and 50257 on one AVX2 core with 32 MiB of cache; under 64 rows GEMMs slow down
CHUNK_BYTES = 32 * 2**20
FEWEST_ROWS = 64


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    vocab_size = weight.shape[0]
    is_labelled = targets != ignore_index
    labelled_rows = is_labelled.nonzero().squeeze(1)
    labels = targets.index_select(0, labelled_rows)
    _check_labels(labels, vocab_size, ignore_index)
    losses = torch.empty(labels.shape, dtype=torch.float64)
    compute = _cpu.cross_entropy_with_gradient if any(needs_grad) else _cpu.cross_entropy

    def cross_entropy(logits: Tensor, rows: slice) -> None:
        compute(
            logits=logits.data_ptr(),
            targets=labels[rows].data_ptr(),
            losses=losses[rows].data_ptr(),
            num_rows=len(logits),
            vocab_size=vocab_size,
            row_stride=logits.stride(0),
        )

    most_rows = max(FEWEST_ROWS, CHUNK_BYTES // (hidden.itemsize * max(1, vocab_size)))
    grad_rows, grad_weight, grad_bias = project_in_chunks(
        hidden.index_select(0, labelled_rows),
        weight.to(hidden.dtype),
        None if bias is None else bias.to(hidden.dtype),
        needs_grad,
        split_rows(len(labels), most=most_rows),
        cross_entropy,
    )
    grad_hidden = grad_rows
    if needs_grad[0]:
        grad_hidden = torch.zeros_like(hidden).index_copy_(0, labelled_rows, grad_rows)
    return (
        losses.sum().to(torch.float32),
        is_labelled.sum(),
        grad_hidden,
        grad_weight.to(weight.dtype),
        grad_bias.to(weight.dtype if bias is None else bias.dtype),
    )


def _check_labels(labels: Tensor, vocab_size: int, ignore_index: int) -> None:
    is_outside = (labels < 0) | (labels >= vocab_size)
    if is_outside.any():
        raise ValueError(
            f"targets contain {labels[is_outside][0].item()}; expected 0 <= target < {vocab_size} "
            f"(vocab_size) or ignore_index ({ignore_index})"
        )
