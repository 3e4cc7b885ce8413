"""Sampling: from scores of the next token to a token.

A draw is an exponential race: i wins where p_i / E_i is largest, with E_i exponential (the same as
the Gumbel-max trick). Rounding of p decides it only where two runners are level, so the last bits
of a model's scores hardly ever change a token. E_i comes from a counter-based generator keyed by
(seed, row id, position, i): a row draws the same whatever its neighbors and its place in the batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from weldlm.field_types import require_integers

__all__ = ["SamplingSettings", "filter_scores", "sample"]

_MIN_TEMPERATURE = 1e-5  # scores divided by less could overflow fp32
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How tokens are chosen and when a sequence ends."""

    max_tokens: int = 128  # most new tokens
    temperature: float = 0.0  # 0 takes the most probable token
    top_k: int = 0  # keeps the k most probable tokens; 0 keeps all
    top_p: float = 1.0  # keeps the most probable tokens that together reach this probability
    min_p: float = 0.0  # keeps tokens of at least this share of the highest probability
    seed: int = 0
    stop: tuple[str, ...] = ()  # texts that end a sequence; not part of the completion
    stop_ids: tuple[int, ...] = ()  # tokens that end a sequence, beside the model's own

    def __post_init__(self) -> None:
        require_integers(self)
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _require(
            self.temperature == 0 or _MIN_TEMPERATURE <= self.temperature < math.inf,
            "temperature",
            self.temperature,
            f"0 (the most probable token) or at least {_MIN_TEMPERATURE}",
        )
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (keep all) or more")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1 (keep all)")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "0 (keep all) to 1")
        _require(0 <= self.seed <= _MAX_SEED, "seed", self.seed, f"0 to {_MAX_SEED}")
        _require(not isinstance(self.stop, str), "stop", self.stop, "a tuple of texts")
        if not all(self.stop):
            raise ValueError(
                "stop has an empty text; expected texts of at least one character; leave it out"
            )
        _require(
            all(stop_id >= 0 for stop_id in self.stop_ids),
            "stop_ids",
            self.stop_ids,
            "ids of at least 0",
        )


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}; expected {expected}")


def sample(
    logits: Tensor, settings: SamplingSettings, *, row_ids: Tensor, positions: Tensor
) -> Tensor:
    """Chooses the next token of each row.

    Args:
        logits: [B, vocab_size], any float dtype; the arithmetic is fp32.
        settings: how to choose; of equal scores the lowest id wins.
        row_ids: [B] int64, names each row's stream of draws.
        positions: [B] int64, place of the new token in its sequence.

    Returns:
        ids [B] int64.

    Raises:
        FloatingPointError: a row of logits holds NaN or +infinity, or only -infinity.
    """
    if settings.temperature == 0:
        best, ids = logits.float().max(dim=-1)
    else:
        probabilities = filter_scores(logits, settings).softmax(dim=-1)
        best, ids = _race(probabilities, _row_keys(settings.seed, row_ids, positions))
    if not bool(best.isfinite().all()):
        rows = row_ids[~best.isfinite()].tolist()
        raise FloatingPointError(
            f"the model's scores for rows {rows} are not finite; expected finite numbers; "
            "check the weights, or load the model in a wider dtype"
        )
    return ids


def filter_scores(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """Divides logits [B, vocab_size] by the temperature and drops what the filters do not keep.

    The filters follow each other as in transformers: top-k, top-p, min-p.

    Returns:
        scores [B, vocab_size] fp32, -infinity where dropped.
    """
    scores = logits.float() / settings.temperature
    vocab_size = scores.shape[-1]
    if 0 < settings.top_k < vocab_size:
        kept, ids = _keep_top_k(scores, settings.top_k)
        kept = _keep_top_p(kept, settings.top_p)
        scores = torch.full_like(scores, -math.inf).scatter_(-1, ids, kept)
    else:
        scores = _keep_top_p(scores, settings.top_p)
    if settings.min_p > 0:
        lowest = scores.amax(dim=-1, keepdim=True) + math.log(settings.min_p)
        scores = scores.masked_fill(scores < lowest, -math.inf)
    return scores


def _keep_top_k(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Narrows [B, vocab_size] to the k highest and all that equal the lowest of them.

    Returns:
        scores [B, C], -infinity where a row keeps fewer than C, and their ids [B, C], ascending.
    """
    lowest = scores.topk(top_k, dim=-1).values[:, -1:]
    width = int((scores >= lowest).sum(dim=-1).max())
    # the minimum of C is k: a row of NaN counts no token, and is reported by the caller
    ids = scores.topk(max(width, top_k), dim=-1).indices.sort(dim=-1).values
    scores = scores.gather(-1, ids)
    return scores.masked_fill(scores < lowest, -math.inf), ids


def _keep_top_p(scores: Tensor, top_p: float) -> Tensor:
    """Drops the least probable tokens of [B, C] that together have at most 1 - top_p."""
    if top_p == 1:
        return scores
    ascending, order = scores.sort(dim=-1, stable=True)
    # fp64: a sum over a large vocabulary in fp32 loses the small probabilities
    cumulative = ascending.double().softmax(dim=-1).cumsum(dim=-1)
    is_dropped = cumulative <= 1 - top_p
    is_dropped[:, -1] = False
    return scores.masked_fill(is_dropped.scatter(-1, order, is_dropped), -math.inf)


_BLOCK_SIZE = 256  # about the square root of a large vocabulary: few draws on both levels


def _race(probabilities: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Draws from each row of [B, vocab_size]: first a block of tokens, then one token of it.

    Returns:
        the winners' p / E [B] fp64 and their ids [B].
    """
    vocab_size = probabilities.shape[-1]
    padded = functional.pad(probabilities, (0, -vocab_size % _BLOCK_SIZE))
    blocks = padded.unflatten(-1, (-1, _BLOCK_SIZE)).sum(dim=-1, dtype=torch.float64)
    numbers = vocab_size + torch.arange(blocks.shape[1], device=keys.device)
    chances = blocks / _exponentials(keys, numbers)
    block = chances.argmax(dim=-1, keepdim=True)  # [B, 1]

    ids = block * _BLOCK_SIZE + torch.arange(_BLOCK_SIZE, device=keys.device)
    chances = padded.gather(-1, ids).double() / _exponentials(keys, ids)
    best, place = chances.max(dim=-1, keepdim=True)
    return best.squeeze(-1), ids.gather(-1, place).squeeze(-1)


# SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): number
# i of the stream `key` is mix(key + (i + 1) * gamma). int64 wraps modulo 2^64, as it should.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift_right(state, 30)) * _MIX_1
    state = (state ^ _shift_right(state, 27)) * _MIX_2
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, count: int) -> Tensor:
    """Logical shift; >> alone copies the sign."""
    return torch.bitwise_and(state >> count, 2 ** (64 - count) - 1)


def _row_keys(seed: int, row_ids: Tensor, positions: Tensor) -> Tensor:
    """[B] int64, one stream for every (seed, row id, position)."""
    keys = _mix(torch.full_like(row_ids, seed) + _GAMMA)
    keys = _mix(keys + (row_ids + 1) * _GAMMA)
    return _mix(keys + (positions + 1) * _GAMMA)


def _exponentials(keys: Tensor, numbers: Tensor) -> Tensor:
    """[B, C] fp64, exponentially distributed: the given numbers of the streams `keys` [B]."""
    bits = _mix(keys.unsqueeze(-1) + (numbers + 1) * _GAMMA)
    # 52 bits and a half: neither 0 nor 1, exact in fp64
    uniforms = (_shift_right(bits, 12).double() + 0.5) * 2.0**-52
    return -torch.log(uniforms)
