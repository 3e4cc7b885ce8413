"""Parts of the sampling kernel, on tiles of [BLOCK_C, 8] tokens of one row.

The arithmetic is that of arithmetic.py, operation by operation, and the kernels that use it are
compiled without fused multiply-add, so that each operation is rounded by itself.
"""

import triton
import triton.language as tl

from weldlm_kernels.philox_tiles import philox_tile

__all__ = [
    "exponent_tile",
    "exponential_tile",
    "load_tile",
    "order_key",
    "power_of_two",
    "row_threshold",
    "weight_tile",
]


@triton.jit
def load_tile(row_ptr, begin, vocab_size, BLOCK_C: tl.constexpr):
    """Loads the tokens from `begin`, -infinity past the end; returns them and their ids."""
    lane = tl.arange(0, BLOCK_C)[:, None] * 8 + tl.arange(0, 8)[None, :]
    ids = begin + lane
    return tl.load(row_ptr + ids, mask=ids < vocab_size, other=-float("inf")), ids


@triton.jit
def order_key(x):
    """Unsigned integers in the order of the floating-point numbers x, both zeros the same."""
    if x.dtype == tl.float32:
        bits = x.to(tl.uint32, bitcast=True)
        bits = tl.where(bits == 0x80000000, 0, bits)
        key = tl.where(bits >= 0x80000000, ~bits, bits | 0x80000000)
    else:
        bits = x.to(tl.uint16, bitcast=True).to(tl.uint32)
        bits = tl.where(bits == 0x8000, 0, bits)
        key = tl.where(bits >= 0x8000, 0xFFFF - bits, bits | 0x8000)
    return key.to(tl.uint32)


@triton.jit
def exponent_tile(x, top, inverse_temperature):
    """log2 of the weights, -100 for those that are 0 (see arithmetic.exponents)."""
    exponent = (x.to(tl.float32) - top) * inverse_temperature * 1.4426950408889634
    return tl.where(exponent > -100.0, exponent, -100.0)


@triton.jit
def weight_tile(x, top, inverse_temperature):
    """Weights relative to that of the highest (see arithmetic.relative_weights)."""
    exponent = exponent_tile(x, top, inverse_temperature)
    return tl.where(exponent > -100.0, power_of_two(exponent), 0.0)


@triton.jit
def power_of_two(exponent):
    """2^exponent (see arithmetic.power_of_two)."""
    whole = tl.floor(exponent)
    fraction = exponent - whole
    power = 0.0002082919527310878 * fraction + 0.0012689351569861174
    power = power * fraction + 0.009652440436184406
    power = power * fraction + 0.055495936423540115
    power = power * fraction + 0.24022722244262695
    power = power * fraction + 0.6931471824645996
    power = power * fraction + 1.0
    return power * ((whole.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def log_of_rest(u):
    """log(1 - u) (see arithmetic._log_of_rest)."""
    bits = (1.0 - u).to(tl.int32, bitcast=True)
    mantissa = ((bits & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
    is_high = mantissa > 1.4142135623730951
    exponent = ((bits >> 23) - 127 + is_high.to(tl.int32)).to(tl.float32)
    f = tl.where(is_high, mantissa * 0.5, mantissa) - 1.0
    f = tl.where(exponent == 0.0, -u, f)
    square = f * f
    series = 7.0376836292e-2 * f - 1.1514610310e-1
    series = series * f + 1.1676998740e-1
    series = series * f - 1.2420140846e-1
    series = series * f + 1.4249322787e-1
    series = series * f - 1.6668057665e-1
    series = series * f + 2.0000714765e-1
    series = series * f - 2.4999993993e-1
    series = series * f + 3.3333331174e-1
    series = series * f * square
    series = series + exponent * -2.12194440e-4 - square * 0.5
    return f + series + exponent * 0.693359375


@triton.jit
def to_exponential(high, low):
    """An exponentially distributed number of two random words (see arithmetic.exponentials)."""
    bits = (high.to(tl.int64) << 31) | (low >> 1).to(tl.int64) | 1
    u = tl.minimum(bits.to(tl.float32) * 1.0842021724855044e-19, 0.999999940395355225)
    return -log_of_rest(u)


@triton.jit
def exponential_tile(seed, position, begin, BLOCK_C: tl.constexpr):
    """[BLOCK_C, 8] exponentially distributed numbers of the ids from `begin`."""
    pair = begin // 2 + tl.arange(0, BLOCK_C)[:, None] * 4 + tl.arange(0, 4)[None, :]
    w0, w1, w2, w3 = philox_tile(seed, position, pair)
    both = tl.join(to_exponential(w0, w1), to_exponential(w2, w3))
    return tl.reshape(both, [BLOCK_C, 8])


@triton.jit
def count_digits(key, is_counted, shift, BLOCK_C: tl.constexpr):
    """How many counted keys have each 4-bit digit at `shift`: [16] int64."""
    digit = ((key >> shift) & 15).to(tl.int64)
    # a lane counts its 8 tokens in 4-bit fields of one word; 8 fit below 16
    fields = tl.sum(tl.where(is_counted, tl.full([], 1, tl.int64) << (4 * digit), 0), axis=1)
    place = 4 * tl.arange(0, 16).to(tl.int64)
    return tl.sum(((fields[:, None] >> place[None, :]) & 15).to(tl.int32), axis=0).to(tl.int64)


@triton.jit
def weigh_digits(key, masses, shift, BLOCK_C: tl.constexpr):
    """The mass of the keys with each 4-bit digit at `shift`: [16] int64."""
    digit = ((key >> shift) & 15).to(tl.int32)
    bins = tl.arange(0, 16)
    total = tl.zeros([16], tl.int64)
    for value in tl.static_range(16):
        part = tl.sum(tl.sum(tl.where(digit == value, masses, 0), axis=1), axis=0)
        total = tl.where(bins == value, part, total)
    return total


@triton.jit
def find_threshold(
    row_ptr,
    vocab_size,
    top,
    inverse_temperature,
    top_p,
    floor,
    bound,
    BLOCK_C: tl.constexpr,
    KEY_BITS: tl.constexpr,
    IS_MASS: tl.constexpr,
):
    """The highest key for which the tokens of at least that key reach a bound.

    Tokens are counted up to `bound`; with IS_MASS those from the key `floor` are weighed, up to
    the share `top_p` of their mass. The key is found by digits of 4 bits, the highest first.
    """
    bins = tl.arange(0, 16)
    prefix = tl.full([], 0, tl.uint32)
    above = tl.full([], 0, tl.int64)
    for step in range(KEY_BITS // 4):
        shift = tl.cast(KEY_BITS - 4 - 4 * step, tl.uint32)
        digits = tl.zeros([16], tl.int64)
        for begin in range(0, vocab_size, BLOCK_C * 8):
            x, ids = load_tile(row_ptr, begin, vocab_size, BLOCK_C)
            key = order_key(x)
            is_candidate = ((key ^ prefix) >> shift) >> 4 == 0  # the digits so far are the same
            is_in = (ids < vocab_size) & (key >= floor) & is_candidate
            if tl.max(tl.max(is_in.to(tl.int32), axis=1), axis=0) > 0:
                if IS_MASS:
                    masses = (weight_tile(x, top, inverse_temperature) * 1099511627776.0).to(
                        tl.int64
                    )
                    digits += weigh_digits(key, tl.where(is_in, masses, 0), shift, BLOCK_C)
                else:
                    digits += count_digits(key, is_in, shift, BLOCK_C)
        if IS_MASS and step == 0:
            total = tl.sum(digits, axis=0).to(tl.float64)
            bound = tl.maximum(tl.ceil(top_p.to(tl.float64) * total).to(tl.int64), 1)
        from_digit = above + tl.sum(digits, axis=0) - tl.cumsum(digits, axis=0) + digits
        digit = tl.sum((from_digit >= bound).to(tl.int32), axis=0) - 1
        above += tl.sum(tl.where(bins > digit, digits, 0), axis=0)
        prefix |= digit.to(tl.uint32) << shift
    return prefix


@triton.jit
def row_threshold(
    row_ptr,
    vocab_size,
    top,
    inverse_temperature,
    top_k_ptr,
    top_p_ptr,
    row,
    BLOCK_C: tl.constexpr,
    KEY_BITS: tl.constexpr,
):
    """The lowest key that top-k and top-p keep in a row."""
    threshold = tl.full([], 0, tl.uint32)
    one = tl.full([], 1.0, tl.float32)
    if top_k_ptr is not None:
        top_k = tl.load(top_k_ptr + row).to(tl.int64)
        if (top_k > 0) & (top_k < vocab_size):
            threshold = find_threshold(
                row_ptr,
                vocab_size,
                top,
                inverse_temperature,
                one,
                threshold,
                top_k,
                BLOCK_C,
                KEY_BITS,
                False,
            )
    if top_p_ptr is not None:
        top_p = tl.load(top_p_ptr + row).to(tl.float32)
        if top_p < 1.0:
            threshold = find_threshold(
                row_ptr,
                vocab_size,
                top,
                inverse_temperature,
                top_p,
                threshold,
                tl.full([], 0, tl.int64),
                BLOCK_C,
                KEY_BITS,
                True,
            )
    return threshold
