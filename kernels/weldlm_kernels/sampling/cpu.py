"""sampling on a CPU: fp32 rows in C++; filters select in linear time, the tokens the reference's.

Only tokens that the filters keep are given random numbers.
"""

import torch
from torch import Tensor

from weldlm_kernels import _cpu
from weldlm_kernels.row_buffers import fp32
from weldlm_kernels.sampling import reference

__all__ = ["penalize", "sample"]


def sample(
    logits: Tensor,
    scores: Tensor | None,
    temperature: Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Returns ids and logprobs [B]; `scores` are the logits after penalties, None without."""
    logits = fp32(logits)
    scores = logits if scores is None else fp32(scores)
    num_rows, vocab_size = logits.shape
    given = [temperature, seeds, positions, None if top_k is None else top_k.long(), top_p, min_p]
    kept = [None if x is None else x.contiguous() for x in given]
    addresses = [0 if x is None else x.data_ptr() for x in kept]
    names = ("temperatures", "seeds", "positions", "top_k", "top_p", "min_p")
    ids = torch.empty(num_rows, dtype=torch.int64)
    _cpu.draw_tokens(
        scores=scores.data_ptr(),
        **dict(zip(names, addresses, strict=True)),
        ids=ids.data_ptr(),
        num_rows=num_rows,
        vocab_size=vocab_size,
    )
    losses = torch.empty(num_rows, dtype=torch.float64)
    _cpu.cross_entropy(
        logits=logits.data_ptr(),
        targets=ids.data_ptr(),
        losses=losses.data_ptr(),
        num_rows=num_rows,
        vocab_size=vocab_size,
        row_stride=vocab_size,
    )
    logprobs = -losses.float()
    return torch.where(logprobs.isnan(), 0, ids), logprobs


def penalize(
    logits: Tensor,
    history_ids: Tensor,
    history_offsets: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> Tensor:
    """Lowers the logits [B, vocab_size] of tokens that a row has had before."""
    counts = reference.count_tokens(history_ids, history_offsets, logits.shape[1])
    return reference.penalize(logits, counts, repetition, presence, frequency)
