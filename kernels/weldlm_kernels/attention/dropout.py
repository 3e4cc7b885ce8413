"""Which probabilities dropout keeps: a pure function of seed, head, query token and key token.

A counter-based generator needs no state, so tiles of any size, the backward and the reference draw
the same mask (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Philox costs some
80 integer instructions a draw. Here a query token and a key token get a word each from a bijection
of 32 bits with good avalanche (lowbias32 of github.com/skeeto/hash-prospector), and the bijection
of both words together, 10 instructions, decides about the pair.
"""

import torch
from torch import Tensor

__all__ = ["draws", "kept", "threshold"]

# a draw has 31 bits, which int32 holds
_NUM_DRAWS = 2**31
_MASK = 2**32 - 1


def threshold(dropout_p: float) -> int:
    """A draw below it is dropped."""
    return min(round(dropout_p * _NUM_DRAWS), _NUM_DRAWS - 1)


def kept(
    dropout_p: float, seed: Tensor, num_heads: int, q_tokens: Tensor, k_tokens: Tensor
) -> Tensor:
    """True where the probability of a query token and a key token is kept.

    Args:
        dropout_p: share of the probabilities that is dropped.
        seed: one integer.
        num_heads: of the queries.
        q_tokens: [T] places of the queries in the packed tensor.
        k_tokens: [S] places of the keys in the packed tensor.

    Returns:
        [num_heads, T, S].
    """
    return draws(seed, num_heads, q_tokens, k_tokens) >= threshold(dropout_p)


def draws(seed: Tensor, num_heads: int, q_tokens: Tensor, k_tokens: Tensor) -> Tensor:
    """Uniform integers in [0, 2**31); [num_heads, T, S]."""
    seed = seed.reshape(()).long()
    heads = torch.arange(num_heads, device=seed.device).view(-1, 1, 1)
    q_stream = _mix((seed & _MASK) ^ _mix(2 * heads))
    k_stream = _mix((seed >> 32 & _MASK) ^ _mix(2 * heads + 1))
    q_words = _mix(q_stream + q_tokens.view(-1, 1))
    k_words = _mix(k_stream + k_tokens)
    return _mix(q_words ^ k_words) >> 1


def _mix(x: Tensor) -> Tensor:
    """The bijection of 32 bits, computed in int64, whose overflow leaves the low bits right."""
    x = x + 0x9E3779B9 & _MASK  # without it 0 would give 0
    x = (x ^ x >> 16) * 0x7FEB352D & _MASK
    x = (x ^ x >> 15) * 0x846CA68B & _MASK
    return x ^ x >> 16
