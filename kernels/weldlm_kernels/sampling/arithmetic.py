"""The numbers that a draw depends on, in operations that every backend rounds the same way.

exp and log differ in their last bits from one library to the next, which would move the border of a
filter or the winner of a draw. Here both are polynomials in fp32, each operation rounded by itself,
and probabilities are summed as integers, exact in any order. gpu_tiles.py has the same in Triton.
"""

import torch
from torch import Tensor

from weldlm_kernels.philox import philox

__all__ = ["exponentials", "exponents", "mass", "power_of_two", "relative_weights"]

# 2^f = 1 + f P(f) on [0, 1), error below 1e-7
_EXP2 = (
    0.6931471824645996,
    0.24022722244262695,
    0.055495936423540115,
    0.009652440436184406,
    0.0012689351569861174,
    0.0002082919527310878,
)
# log(1 + f) = f - f^2 / 2 + f^3 P(f) on [1/sqrt 2 - 1, sqrt 2 - 1] (Cephes, logf)
_LOG = (
    3.3333331174e-1,
    -2.4999993993e-1,
    2.0000714765e-1,
    -1.6668057665e-1,
    1.4249322787e-1,
    -1.2420140846e-1,
    1.1676998740e-1,
    -1.1514610310e-1,
    7.0376836292e-2,
)
_LOG2_E = 1.4426950408889634
LEAST_EXPONENT = -100.0


def exponents(scores: Tensor, temperature: Tensor) -> Tensor:
    """log2 of the weights of scores [B, vocab_size] fp32, which are relative to the highest's.

    Args:
        temperature: [B] fp32; a row of 0 is taken for 1.
    """
    inverse = 1.0 / torch.where(temperature > 0, temperature, 1.0)[:, None]
    exponent = (scores - scores.amax(dim=-1, keepdim=True)) * inverse * _LOG2_E
    return torch.where(exponent > LEAST_EXPONENT, exponent, LEAST_EXPONENT)


def relative_weights(exponent: Tensor) -> Tensor:
    """exp((score - highest) / temperature): 1 for the highest, 0 from 2^-100 down."""
    return torch.where(exponent > LEAST_EXPONENT, power_of_two(exponent), 0.0)


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent, fp32, for exponents of -126 to 127."""
    whole = exponent.floor()
    fraction = exponent - whole
    power = _polynomial(_EXP2, fraction) * fraction + 1.0
    return power * ((whole.int() + 127) << 23).view(torch.float32)


def mass(weights: Tensor) -> Tensor:
    """Weights as multiples of 2^-40, int64: sums of up to 2^22 of them are exact."""
    return (weights * 2.0**40).long()


def exponentials(seeds: Tensor, positions: Tensor, vocab_size: int) -> Tensor:
    """[B, vocab_size] fp32, exponentially distributed, a function of (seed, position, id)."""
    counter = torch.arange(-(-vocab_size // 2), device=seeds.device)[None, :]
    w0, w1, w2, w3 = philox(seeds[:, None], positions[:, None], counter)
    # 63 bits, odd: fp32 keeps 24 digits of however small a number, and none is 0
    bits = torch.stack([(w0 << 31) | (w1 >> 1), (w2 << 31) | (w3 >> 1)], dim=-1) | 1
    u = (bits.flatten(1)[:, :vocab_size].float() * 2.0**-63).clamp(max=1 - 2.0**-24)
    return -_log_of_rest(u)


def _log_of_rest(u: Tensor) -> Tensor:
    """log(1 - u) of numbers in (0, 1), to the last digits where u is small."""
    bits = (1.0 - u).view(torch.int32)
    mantissa = ((bits & 0x7FFFFF) | 0x3F800000).view(torch.float32)  # in [1, 2)
    is_high = mantissa > 2**0.5
    exponent = ((bits >> 23) - 127 + is_high.int()).float()
    f = torch.where(is_high, mantissa * 0.5, mantissa) - 1.0
    f = torch.where(exponent == 0, -u, f)
    square = f * f
    series = _polynomial(_LOG, f) * f * square
    # ln 2 in two parts, the first exact in its products
    series = series + exponent * -2.12194440e-4 - square * 0.5
    return f + series + exponent * 0.693359375


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
