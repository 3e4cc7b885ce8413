"""Random numbers by counter: each is a function of (seed, stream, counter) alone.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): four words of 32
bits for a key of 64 bits and a counter of 128. The same on Triton blocks is philox_tiles.py.
"""

import torch
from torch import Tensor

__all__ = ["dropout_factor", "philox", "uniform"]

_WORD = 2**32 - 1
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox(seed: Tensor, stream: Tensor, counter: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns four random words in [0, 2^32), int64, in the common shape of the arguments.

    Args:
        seed: int64, the key.
        stream: int64, the high half of the counter.
        counter: int64, the low half of the counter.
    """
    low_key, high_key = _words(seed)
    c0, c1 = _words(counter)
    c2, c3 = _words(stream)
    for _ in range(_ROUNDS):
        # int64 wraps modulo 2^64, and the halves of the product are right all the same
        low_0, high_0 = _words(c0 * _MULTIPLIERS[0])
        low_1, high_1 = _words(c2 * _MULTIPLIERS[1])
        c0, c1, c2, c3 = high_1 ^ c1 ^ low_key, low_1, high_0 ^ c3 ^ high_key, low_0
        low_key = (low_key + _KEY_STEPS[0]) & _WORD
        high_key = (high_key + _KEY_STEPS[1]) & _WORD
    return c0, c1, c2, c3


def uniform(word: Tensor) -> Tensor:
    """Maps random words to fp32 strictly between 0 and 1: 23 bits and a half, exact."""
    return ((word >> 9).float() + 0.5) * 2.0**-23


def dropout_factor(seed: Tensor, rows: int, width: int, dropout_p: float) -> Tensor:
    """Returns [rows, width] fp32: 0 with probability `dropout_p`, else 1 / (1 - dropout_p).

    Element (row, column) has word column % 4 of the stream `row` at counter column // 4.

    Args:
        seed: [1] int64.
    """
    stream = torch.arange(rows, device=seed.device)[:, None]
    counter = torch.arange(-(-width // 4), device=seed.device)[None, :]
    words = torch.stack(philox(seed, stream, counter), dim=-1).flatten(1)[:, :width]
    return (uniform(words) >= dropout_p).float() / (1.0 - dropout_p)


def _words(value: Tensor) -> tuple[Tensor, Tensor]:
    """The low and the high 32 bits."""
    return value & _WORD, (value >> 32) & _WORD
