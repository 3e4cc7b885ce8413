"""sampling: from scores of the next token to a token, without a sort.

A draw is an exponential race (the same as the Gumbel-max trick): of the kept tokens that of the
lowest E_i / p_i wins, E_i exponentially distributed, of a Philox counter at (seed, position, i). A
row's token depends on nothing but the row. Everything that decides it is computed in operations
that every backend rounds alike (arithmetic.py): the kernel keeps and draws what the reference does.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weldlm_kernels.backend import choose, implementation
from weldlm_kernels.dtypes import require_floating_point
from weldlm_kernels.registration import register
from weldlm_kernels.sampling import reference

__all__ = ["Penalties", "sample"]

_MOST_TOKENS = 2**22  # whose masses are summed exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties:
    """What lowers the logits of tokens that a row has had before."""

    history_ids: Tensor  # [N] int64, the rows' tokens end to end, below vocab_size
    history_offsets: Tensor  # [B + 1] int32 or int64, where each row's begin
    repetition: Tensor  # [B] fp32 above 0: positive logits are divided by it, others multiplied
    presence: Tensor  # [B] fp32, taken off once
    frequency: Tensor  # [B] fp32, taken off for each occurrence


def sample(
    logits: Tensor,
    *,
    temperature: Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    min_p: Tensor | None = None,
    penalties: Penalties | None = None,
) -> tuple[Tensor, Tensor]:
    """Chooses the next token of each row; arithmetic is fp32.

    In the order of Hugging Face: penalties (repetition, frequency, presence), temperature, top-k,
    top-p, min-p. Tokens of equal logits are kept or dropped together:
    - top-k keeps the k highest and what equals the lowest of them;
    - top-p keeps a token if those of higher logits have less than `top_p` of what top-k kept;
    - min-p keeps a token of at least `min_p` times the highest probability.
    The token of the highest logit is always kept, one of less than 2^-100 of its probability never
    drawn. For top-p, probabilities are counted in 2^-40 of the highest.

    Args:
        logits: [B, vocab_size], fp32, fp16 or bf16 (fp64 is rounded to fp32), vocab_size <= 2^22.
        temperature: [B] fp32, 1e-30 or more; 0 takes the highest logit after penalties, of
            equal ones the lowest id.
        seeds: [B] int64.
        positions: [B] int64, place of the new token in its sequence: each draws anew.
        top_k: [B] int32 or int64; 0 or less keeps all.
        top_p: [B] fp32, above 0; 1 or more keeps all.
        min_p: [B] fp32, 0 (keeps all) to 1.
        penalties: None for none.

    Returns:
        ids [B] int64, and logprobs [B] fp32: log_softmax(logits)[ids], before penalties,
        temperature and filters. A row with NaN or +infinity, or of -infinity alone, has logprob
        NaN and id 0.

    Raises:
        ValueError: shapes do not fit, or the tensors are on several devices.
        TypeError: a dtype does not fit.
    """
    _check(logits, temperature, seeds, positions, top_k, top_p, min_p)
    backend = choose("sampling", logits)
    scores = None
    if penalties is not None:
        scores = _penalized(logits, penalties, backend)
    settings = (temperature, seeds, positions, top_k, top_p, min_p)
    if backend == "reference":
        return reference.sample(logits, scores, *settings)
    return _sample_op(logits, scores, *settings, backend)  # type: ignore[no-any-return]


def _penalized(logits: Tensor, penalties: Penalties, backend: Any) -> Tensor:
    _check_penalties(logits, penalties)
    factors = (penalties.repetition, penalties.presence, penalties.frequency)
    history = (penalties.history_ids, penalties.history_offsets)
    if backend == "reference":
        counts = reference.count_tokens(*history, logits.shape[1])
        return reference.penalize(logits, counts, *factors)
    return _penalize_op(logits, *history, *factors, backend)  # type: ignore[no-any-return]


_INTEGERS = (torch.int32, torch.int64)


def _check(
    logits: Tensor,
    temperature: Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
) -> None:
    require_floating_point("logits", logits)
    if logits.dim() != 2 or not 0 < logits.shape[1] <= _MOST_TOKENS:
        raise ValueError(
            f"logits {tuple(logits.shape)}; expected [B, vocab_size], "
            f"vocab_size 1 to {_MOST_TOKENS}"
        )
    rows = logits.shape[0]
    for name, tensor, dtypes in (
        ("temperature", temperature, (torch.float32,)),
        ("seeds", seeds, (torch.int64,)),
        ("positions", positions, (torch.int64,)),
        ("top_k", top_k, _INTEGERS),
        ("top_p", top_p, (torch.float32,)),
        ("min_p", min_p, (torch.float32,)),
    ):
        if tensor is not None:
            _require(name, tensor, (rows,), dtypes, logits)


def _check_penalties(logits: Tensor, penalties: Penalties) -> None:
    rows = logits.shape[0]
    ids, offsets = penalties.history_ids, penalties.history_offsets
    _require("history_ids", ids, (ids.numel(),), (torch.int64,), logits)
    _require("history_offsets", offsets, (rows + 1,), _INTEGERS, logits)
    for name in ("repetition", "presence", "frequency"):
        _require(name, getattr(penalties, name), (rows,), (torch.float32,), logits)


def _require(
    name: str,
    tensor: Tensor,
    shape: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...],
    logits: Tensor,
) -> None:
    if tensor.shape != shape or tensor.device != logits.device:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} on {tensor.device}; expected {shape} on "
            f"{logits.device}, where logits {tuple(logits.shape)} are"
        )
    if tensor.dtype not in dtypes:
        expected = " or ".join(map(str, dtypes))
        raise TypeError(f"{name} is {tensor.dtype}; expected {expected}; convert it")


def _sample(
    logits: Tensor,
    scores: Tensor | None,
    temperature: Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: Tensor | None,
    top_p: Tensor | None,
    min_p: Tensor | None,
    backend: Any,
) -> tuple[Tensor, Tensor]:
    return implementation("sampling", backend).sample(  # type: ignore[no-any-return]
        logits, scores, temperature, seeds, positions, top_k, top_p, min_p
    )


def _sample_fake(logits: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    rows = logits.shape[0]
    return logits.new_empty(rows, dtype=torch.int64), logits.new_empty(rows, dtype=torch.float32)


def _penalize(
    logits: Tensor,
    history_ids: Tensor,
    history_offsets: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
    backend: Any,
) -> Tensor:
    return implementation("sampling", backend).penalize(  # type: ignore[no-any-return]
        logits, history_ids, history_offsets, repetition, presence, frequency
    )


def _penalize_fake(logits: Tensor, *_: Any) -> Tensor:
    return logits.new_empty(logits.shape, dtype=torch.float32)


_sample_op = register(
    "sample(Tensor logits, Tensor? scores, Tensor temperature, Tensor seeds, Tensor positions,"
    " Tensor? top_k, Tensor? top_p, Tensor? min_p, str backend) -> (Tensor ids, Tensor logprobs)",
    _sample,
    _sample_fake,
)
_penalize_op = register(
    "penalize(Tensor logits, Tensor history_ids, Tensor history_offsets, Tensor repetition,"
    " Tensor presence, Tensor frequency, str backend) -> Tensor",
    _penalize,
    _penalize_fake,
)
