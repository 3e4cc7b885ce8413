"""Sampling: from scores of the next token to a token.

A draw is an exponential race: i wins where p_i / E_i is largest, with E_i exponential (the same as
the Gumbel-max trick). Rounding of p decides it only where two runners are level, so the last bits
of a model's scores hardly ever change a token. E_i comes from a counter-based generator keyed by
(seed, row id, position, i), and by the sample where a row has several: a row draws the same
whatever its neighbors and its place in the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from weldlm.sampling_settings import SamplingSettings
from weldlm.score_filters import filter_scores

__all__ = ["SamplingSettings", "draw_tokens", "filter_scores", "sample", "stream_keys"]


def sample(
    logits: Tensor, settings: SamplingSettings, *, row_ids: Tensor, positions: Tensor
) -> Tensor:
    """Chooses the next token of each row.

    Args:
        logits: [B, vocab_size], any float dtype; the arithmetic is fp32.
        settings: how to choose; of equal scores the lowest id wins. What depends on the tokens so
            far is `TokenRules`'s concern.
        row_ids: [B] int64, names each row's stream of draws.
        positions: [B] int64, place of the new token in its sequence.

    Returns:
        ids [B] int64.

    Raises:
        FloatingPointError: a row of logits holds NaN or +infinity, or only -infinity.
    """
    best, ids = draw_tokens(logits, settings, _row_keys(settings.seed, row_ids), positions)
    if not bool(best.isfinite().all()):
        rows = row_ids[~best.isfinite()].tolist()
        raise FloatingPointError(
            f"the model's scores for rows {rows} are not finite; expected finite numbers; "
            "check the weights, or load the model in a wider dtype"
        )
    return ids


def draw_tokens(
    logits: Tensor, settings: SamplingSettings, keys: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Chooses as `sample` does, whatever the settings' seed.

    Args:
        logits: [B, vocab_size].
        settings: temperature and filters.
        keys: [B] int64, see `stream_keys`.
        positions: [B] int64.

    Returns:
        [B], not finite where a row of logits is not, and ids [B] int64.
    """
    if settings.temperature == 0:
        best, ids = logits.float().max(dim=-1)
        return best, ids
    probabilities = filter_scores(logits, settings).softmax(dim=-1)
    return _race(probabilities, _mix(keys + (positions + 1) * _GAMMA))


def stream_keys(seed: int, row_id: int, samples: Sequence[int]) -> list[int]:
    """The streams of draws of a row's samples; the first one's is the row's own."""
    key = _row_keys(seed, torch.tensor([row_id]))
    numbers = torch.tensor(samples)
    # positions and draws count upwards from a key: samples count downwards
    return torch.where(numbers == 0, key, _mix(key - numbers * _GAMMA)).tolist()


_BLOCK_SIZE = 256  # about the square root of a large vocabulary: few draws on both levels


def _race(probabilities: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Draws from each row of [B, vocab_size]: first a block of tokens, then one token of it.

    Returns:
        the winners' p / E [B] fp64 and their ids [B].
    """
    vocab_size = probabilities.shape[-1]
    blocks = _block_sums(probabilities).double()
    numbers = vocab_size + torch.arange(blocks.shape[1], device=keys.device)
    chances = blocks / _exponentials(keys, numbers)
    block = chances.argmax(dim=-1, keepdim=True)  # [B, 1]

    ids = block * _BLOCK_SIZE + torch.arange(_BLOCK_SIZE, device=keys.device)
    weights = probabilities.gather(-1, ids.clamp(max=vocab_size - 1))
    weights = torch.where(ids < vocab_size, weights, 0.0)
    chances = weights.double() / _exponentials(keys, ids)
    best, place = chances.max(dim=-1, keepdim=True)
    return best.squeeze(-1), ids.gather(-1, place).squeeze(-1)


def _block_sums(probabilities: Tensor) -> Tensor:
    """[B, ceil(vocab_size / _BLOCK_SIZE)]; without a copy, which padding would be."""
    num_whole = probabilities.shape[-1] // _BLOCK_SIZE * _BLOCK_SIZE
    sums: Tensor = probabilities[:, :num_whole].unflatten(-1, (-1, _BLOCK_SIZE)).sum(dim=-1)
    if num_whole == probabilities.shape[-1]:
        return sums
    return torch.cat((sums, probabilities[:, num_whole:].sum(dim=-1, keepdim=True)), dim=-1)


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


def _row_keys(seed: int, row_ids: Tensor) -> Tensor:
    """[B] int64, one stream for every (seed, row id)."""
    keys = _mix(torch.full_like(row_ids, seed) + _GAMMA)
    return _mix(keys + (row_ids + 1) * _GAMMA)


def _exponentials(keys: Tensor, numbers: Tensor) -> Tensor:
    """[B, C] fp64, exponentially distributed: the given numbers of the streams `keys` [B]."""
    bits = _mix(keys.unsqueeze(-1) + (numbers + 1) * _GAMMA)
    # 52 bits and a half: neither 0 nor 1, exact in fp64
    uniforms = (_shift_right(bits, 12).double() + 0.5) * 2.0**-52
    return -torch.log(uniforms)
