import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from tests.kernels.interpreter import interpret
from weldlm_kernels.philox import dropout_factor, philox, uniform
from weldlm_kernels.philox_tiles import philox_tile, uniform_tile

# (counter, stream, seed) as 64-bit words and the result: the known answers of Random123 for
# philox4x32-10 (Salmon et al. 2011)
KNOWN = [
    ((0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((-1, -1, -1), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x85A308D3243F6A88 - 2**64, 0x0370734413198A2E, 0x299F31D0A4093822),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@triton.jit
def philox_kernel(seed_ptr, stream_ptr, counter_ptr, words_ptr, uniforms_ptr, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)
    seed, stream = tl.load(seed_ptr + index), tl.load(stream_ptr + index)

    w0, w1, w2, w3 = philox_tile(seed, stream, tl.load(counter_ptr + index))

    tl.store(words_ptr + index, w0.to(tl.int64))
    tl.store(words_ptr + SIZE + index, w1.to(tl.int64))
    tl.store(words_ptr + 2 * SIZE + index, w2.to(tl.int64))
    tl.store(words_ptr + 3 * SIZE + index, w3.to(tl.int64))
    tl.store(uniforms_ptr + index, uniform_tile(w0))


def random_int64(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**63), 2**63 - 1, (256,), generator=generator)


@pytest.mark.parametrize(("arguments", "expected"), KNOWN, ids=["zeros", "ones", "pi"])
def test_words_are_the_known_answers(
    arguments: tuple[int, int, int], expected: tuple[int, ...]
) -> None:
    counter, stream, seed = (torch.tensor(value) for value in arguments)

    words = philox(seed, stream, counter)

    assert tuple(int(word) for word in words) == expected


def test_triton_draws_the_same_words() -> None:
    seed, stream, counter = (random_int64(i) for i in range(3))
    words, uniforms = torch.empty(4, 256, dtype=torch.int64), torch.empty(256)

    with interpret():
        philox_kernel[(1,)](seed, stream, counter, words, uniforms, SIZE=256)

    expected = philox(seed, stream, counter)
    torch.testing.assert_close(words, torch.stack(expected), rtol=0, atol=0)
    torch.testing.assert_close(uniforms, uniform(expected[0]), rtol=0, atol=0)


def test_uniforms_reach_neither_end() -> None:
    ends = uniform(torch.tensor([0, 2**32 - 1]))

    assert ends.tolist() == [2.0**-24, 1 - 2.0**-24]


def test_dropout_keeps_the_expected_share() -> None:
    factor = dropout_factor(torch.tensor([7]), 100, 1001, 0.3)

    share = (factor > 0).double().mean().item()

    # five standard deviations of the mean of 100,100 draws
    assert share == pytest.approx(0.7, abs=5 * (0.3 * 0.7 / 100_100) ** 0.5)


def test_dropout_of_a_row_does_not_depend_on_the_others() -> None:
    few, many = (dropout_factor(torch.tensor([7]), rows, 9, 0.5) for rows in (2, 5))

    torch.testing.assert_close(few, many[:2], rtol=0, atol=0)
