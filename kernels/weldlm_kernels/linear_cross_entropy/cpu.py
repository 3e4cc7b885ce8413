"""linear_cross_entropy on a CPU: GEMMs by PyTorch, loss and gradient of a chunk in one C++ pass.

Rows without a label are dropped before the first GEMM. What is not plain cross-entropy is added to
the result of that pass by PyTorch, a chunk at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.linear_cross_entropy.options import LossOptions
from weldlm_kernels.projection import project_in_chunks, split_rows

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
    row_weights: Tensor | None,
    options: LossOptions,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns loss_sum, count, num_correct ([0] if not counted) and the gradients."""
    vocab_size = weight.shape[0]
    is_labelled = targets != options.ignore_index
    labelled_rows = is_labelled.nonzero().squeeze(1)
    labels = targets.index_select(0, labelled_rows)
    _check_labels(labels, vocab_size, options.ignore_index)
    if row_weights is not None:
        row_weights = row_weights.index_select(0, labelled_rows).double()
    losses = torch.empty(labels.shape, dtype=torch.float64)
    num_correct = targets.new_zeros(()) if options.counts_correct else targets.new_empty(0)
    needs_any = any(needs_grad)

    def cross_entropy(logits: Tensor, rows: slice) -> None:
        if options.softcap is not None:
            logits.div_(options.softcap).tanh_().mul_(options.softcap)
        if options.counts_correct:
            num_correct.add_((logits.argmax(dim=1) == labels[rows]).sum())
        if options.is_plain:
            _plain_cross_entropy(logits, labels[rows], losses[rows], needs_any)
        else:
            _cross_entropy(logits, labels[rows], losses[rows], options, needs_any)
        if row_weights is not None:
            losses[rows] *= row_weights[rows]
            logits *= row_weights[rows, None].float()

    chunks = split_rows(
        len(labels),
        hidden.itemsize * vocab_size,
        most_bytes=CHUNK_BYTES,
        fewest_rows=FEWEST_ROWS,
    )
    grad_rows, grad_weight, grad_bias = project_in_chunks(
        hidden.index_select(0, labelled_rows),
        weight.to(hidden.dtype),
        None if bias is None else bias.to(hidden.dtype),
        needs_grad,
        chunks,
        cross_entropy,
    )
    grad_hidden = grad_rows
    if needs_grad[0]:
        grad_hidden = torch.zeros_like(hidden).index_copy_(0, labelled_rows, grad_rows)
    return (
        losses.sum().to(torch.float32),
        is_labelled.sum(),
        num_correct,
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


def _plain_cross_entropy(
    logits: Tensor, labels: Tensor, losses: Tensor, with_gradient: bool
) -> None:
    """Writes the losses and, if asked, softmax(logits) - onehot(labels) over the logits."""
    compute = _cpu.cross_entropy_with_gradient if with_gradient else _cpu.cross_entropy
    compute(
        logits=logits.data_ptr(),
        targets=labels.data_ptr(),
        losses=losses.data_ptr(),
        num_rows=len(logits),
        vocab_size=logits.shape[1],
        row_stride=logits.stride(0),
    )


def _cross_entropy(
    logits: Tensor, labels: Tensor, losses: Tensor, options: LossOptions, with_gradient: bool
) -> None:
    """The same with smoothing, z-loss and the gradient of the cap, for logits already capped."""
    label_logits = logits.gather(1, labels[:, None])  # [rows, 1]
    smoothed: Tensor | float = 0.0
    if options.label_smoothing != 0.0:  # 0 times a logit of -inf is none
        distances = (label_logits - logits).mean(dim=1, dtype=torch.float64)
        smoothed = options.label_smoothing * distances
    slopes = None
    if options.softcap is not None and with_gradient:
        slopes = 1 - (logits / options.softcap).square()
    _plain_cross_entropy(logits, labels, losses, with_gradient)
    log_sum_exp = losses + label_logits.squeeze(1)
    losses += smoothed + options.z_loss * log_sum_exp.square()
    if not with_gradient:
        return
    # gradient = (1 + stretch) softmax - (1 - label_smoothing) onehot - label_smoothing / vocab_size
    stretch = (2 * options.z_loss * log_sum_exp).float()[:, None]
    logits *= 1 + stretch
    logits.scatter_add_(1, labels[:, None], stretch + options.label_smoothing)
    logits -= options.label_smoothing / logits.shape[1]
    if slopes is not None:
        logits *= slopes
