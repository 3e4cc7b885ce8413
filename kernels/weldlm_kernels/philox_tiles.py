"""The random numbers of philox.py in Triton, for kernels to draw while they compute."""

import triton
import triton.language as tl

__all__ = ["dropout_factor_tile", "philox_tile", "uniform_tile"]


@triton.jit
def philox_tile(seed, stream, counter):
    """Four random words, uint32, in the common shape of the int64 arguments (see philox.philox)."""
    low_key = (seed & 0xFFFFFFFF).to(tl.uint32)
    high_key = ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32)
    # of one shape from the start, as the words will be
    counter, stream = tl.broadcast(tl.cast(counter, tl.int64), tl.cast(stream, tl.int64))
    c0 = (counter & 0xFFFFFFFF).to(tl.uint32)
    c1 = ((counter >> 32) & 0xFFFFFFFF).to(tl.uint32)
    c2 = (stream & 0xFFFFFFFF).to(tl.uint32)
    c3 = ((stream >> 32) & 0xFFFFFFFF).to(tl.uint32)
    for _ in tl.static_range(10):
        high_0 = tl.umulhi(c0, tl.full([], 0xD2511F53, tl.uint32))
        high_1 = tl.umulhi(c2, tl.full([], 0xCD9E8D57, tl.uint32))
        low_0 = c0 * tl.full([], 0xD2511F53, tl.uint32)
        low_1 = c2 * tl.full([], 0xCD9E8D57, tl.uint32)
        c0, c1, c2, c3 = high_1 ^ c1 ^ low_key, low_1, high_0 ^ c3 ^ high_key, low_0
        low_key += tl.full([], 0x9E3779B9, tl.uint32)
        high_key += tl.full([], 0xBB67AE85, tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def uniform_tile(word):
    """Maps random words to fp32 strictly between 0 and 1 (see philox.uniform)."""
    return ((word >> 9).to(tl.int32).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2^-23


@triton.jit
def dropout_factor_tile(seed, row, first_column, dropout_p, BLOCK_N: tl.constexpr):
    """[BLOCK_M, BLOCK_N] of philox.dropout_factor: `row` [BLOCK_M], `first_column` % 4 == 0."""
    counter = first_column // 4 + tl.arange(0, BLOCK_N // 4)
    w0, w1, w2, w3 = philox_tile(seed, row[:, None], counter[None, :])
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))  # [BLOCK_M, BLOCK_N / 4, 2, 2]
    is_kept = uniform_tile(tl.reshape(words, [row.shape[0], BLOCK_N])) >= dropout_p
    return tl.where(is_kept, 1.0 / (1.0 - dropout_p), 0.0)
