import dataclasses
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from tests.kernels.interpreter import interpret
from weldlm_kernels import Penalties, sample, use_backend
from weldlm_kernels.backend import Backend
from weldlm_kernels.sampling import reference
from weldlm_kernels.sampling.arithmetic import (
    exponentials,
    exponents,
    mass,
    relative_weights,
)
from weldlm_kernels.sampling.gpu_tiles import load_tile, order_key, row_threshold, weight_tile

DTYPES = pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)],
    ids=str,
)
# NumPy warns of -infinity - -infinity, which makes the NaN that is wanted
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")

INFINITY, NAN = float("inf"), float("nan")


def random_logits(rows: int, vocab_size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(vocab_size)
    return (3 * torch.randn(rows, vocab_size, generator=generator)).to(dtype)


def settings(rows: int, **given: float) -> dict[str, Any]:
    """Arguments that are the same in each row, but for the seeds."""
    values = {"temperature": 1.0} | given
    tensors: dict[str, Any] = {name: torch.full((rows,), value) for name, value in values.items()}
    if "top_k" in given:
        tensors["top_k"] = tensors["top_k"].long()
    return tensors | {"seeds": torch.arange(rows) * 2**40, "positions": torch.arange(rows) + 7}


# a row for each kind: greedy, plain, each filter alone, all, widest, narrowest, hot, cold
MIXED: dict[str, Any] = {
    "temperature": torch.tensor([0.0, 1.0, 1.0, 0.7, 1.3, 0.9, 1.0, 1.0, 50.0, 1e-5]),
    "top_k": torch.tensor([3, 0, 5, 0, -1, 40, 10_000, 1, 30, 2]),
    "top_p": torch.tensor([0.5, 1.0, 1.0, 0.8, 1.0, 0.9, 0.999, 1e-6, 0.5, 0.3]),
    "min_p": torch.tensor([0.5, 0.0, 0.0, 0.0, 0.1, 0.01, 0.0, 1.0, 0.0, 0.0]),
    "seeds": torch.arange(10) * 2**33 - 5,
    "positions": torch.arange(10) * 1000,
}


def both(logits: Tensor, **arguments: Any) -> list[tuple[Tensor, Tensor]]:
    """What the kernel returns and what the reference does."""
    backends: tuple[Backend, ...] = ("gpu", "reference")
    found = []
    for backend in backends:
        with interpret(), use_backend(backend):
            found.append(sample(logits, **arguments))
    return found


@triton.jit
def kept_kernel(
    scores_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    kept_ptr,
    vocab_size,
    BLOCK_C: tl.constexpr,
    KEY_BITS: tl.constexpr,
):
    row = tl.program_id(0)
    scores_ptr += row * vocab_size
    inverse = tl.div_rn(1.0, tl.load(temperature_ptr + row))
    x, ids = load_tile(scores_ptr, 0, vocab_size, BLOCK_C)
    top = tl.max(tl.max(x.to(tl.float32), axis=1), axis=0)

    threshold = row_threshold(
        scores_ptr, vocab_size, top, inverse, top_k_ptr, top_p_ptr, row, BLOCK_C, KEY_BITS
    )
    is_kept = (order_key(x) >= threshold) & (
        weight_tile(x, top, inverse) >= tl.load(min_p_ptr + row)
    )

    tl.store(kept_ptr + row * vocab_size + ids, is_kept, mask=ids < vocab_size)


def kept_by_kernel(logits: Tensor, arguments: dict[str, Any]) -> Tensor:
    is_kept = torch.zeros(logits.shape, dtype=torch.int8)
    filters = [arguments[name] for name in ("temperature", "top_k", "top_p", "min_p")]
    sizes = {"BLOCK_C": 128, "KEY_BITS": 8 * logits.element_size()}
    with interpret():
        kept_kernel[(logits.shape[0],)](logits, *filters, is_kept, logits.shape[1], **sizes)
    return is_kept.bool()


def random_filters(rows: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(4, rows, generator=generator)
    return {
        "temperature": 0.3 + 2 * uniform[0],
        "top_k": (uniform[1] * 60).long(),
        "top_p": (1.2 * uniform[2]).clamp(min=0.01),
        "min_p": 0.1 * uniform[3].square(),
    }


@DTYPES
def test_kernel_keeps_exactly_what_the_reference_keeps(dtype: torch.dtype) -> None:
    # bf16 logits have many ties; half of the rows are rounded to have more
    logits = torch.cat([random_logits(4, 777), random_logits(4, 777).round()]).to(dtype)
    arguments = random_filters(8, seed=1)

    actual = kept_by_kernel(logits, arguments)

    expected = reference.kept_tokens(logits.float(), *arguments.values())
    assert actual.sum(dim=1).tolist() == expected.sum(dim=1).tolist()
    assert torch.equal(actual, expected)


@DTYPES
def test_kernel_draws_exactly_what_the_reference_draws(dtype: torch.dtype) -> None:
    logits = random_logits(10, 1500, dtype)

    (ids, logprobs), (expected, expected_logprobs) = both(logits, **MIXED)

    assert ids.tolist() == expected.tolist()
    torch.testing.assert_close(logprobs, expected_logprobs, rtol=1e-6, atol=4e-6)


@pytest.mark.parametrize("vocab_size", [1, 2, 13, 2048, 2049])
def test_any_vocabulary_size_draws_what_the_reference_draws(vocab_size: int) -> None:
    (ids, _), (expected, _) = both(
        random_logits(3, vocab_size), **settings(3, temperature=2.0, top_k=7)
    )

    assert ids.tolist() == expected.tolist()


def test_logprobs_are_those_of_the_plain_logits() -> None:
    logits = random_logits(10, 300)

    (ids, logprobs), _ = both(logits, **settings(10, temperature=1.5))

    exact = logits.double().log_softmax(dim=-1).gather(1, ids[:, None]).squeeze(1)
    # a sum of 300 fp32 numbers and its logarithm: within 20 roundings at a magnitude below 16
    torch.testing.assert_close(logprobs.double(), exact, rtol=0, atol=20 * 2.0**-24 * 16)


def make_penalties(rows: int) -> Penalties:
    generator = torch.Generator().manual_seed(rows)
    counts = [3 * row % 7 for row in range(rows)]
    repetition, presence, frequency = torch.rand(3, rows, generator=generator)
    return Penalties(
        history_ids=torch.randint(0, 11, (sum(counts),), generator=generator),
        history_offsets=torch.tensor([0, *counts]).cumsum(0),
        repetition=1 + repetition,
        presence=presence,
        frequency=frequency,
    )


@DTYPES
def test_penalties_equal_the_reference(dtype: torch.dtype) -> None:
    arguments = settings(6) | {"penalties": make_penalties(6)}

    (ids, logprobs), (expected, expected_logprobs) = both(random_logits(6, 11, dtype), **arguments)

    assert ids.tolist() == expected.tolist()
    torch.testing.assert_close(logprobs, expected_logprobs, rtol=1e-6, atol=4e-6)


def test_penalties_follow_their_definition() -> None:
    logits = torch.tensor([[1.0, -1.0, 2.0, -2.0]])
    counts = torch.tensor([[2, 1, 0, 0]], dtype=torch.int32)

    scores = reference.penalize(logits, counts, *torch.tensor([[2.0], [0.25], [0.5]]))

    assert scores.tolist() == [[0.5 - 0.25 - 1.0, -2.0 - 0.25 - 0.5, 2.0, -2.0]]


def test_counts_are_of_each_rows_own_history() -> None:
    offsets = torch.tensor([0, 2, 2, 5], dtype=torch.int32)

    counts = reference.count_tokens(torch.tensor([3, 3, 0, 1, 0]), offsets, 4)

    assert counts.tolist() == [[0, 0, 0, 2], [0, 0, 0, 0], [2, 1, 0, 0]]


def test_filters_keep_what_transformers_keeps() -> None:
    generation = pytest.importorskip("transformers.generation.logits_process")
    logits = random_logits(1, 500)
    scores = logits / 0.8
    for warper in (
        generation.TopKLogitsWarper(40),
        generation.TopPLogitsWarper(0.9),
        generation.MinPLogitsWarper(0.02),
    ):
        scores = warper(None, scores)

    values = (torch.tensor([value]) for value in (0.8, 40, 0.9, 0.02))
    is_kept = reference.kept_tokens(logits, *values)

    assert torch.equal(is_kept, scores > -INFINITY)
    assert 1 < is_kept.sum() < 40


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"top_k": 2}, [True, True, True, False]),
        ({"top_p": 0.5}, [True, True, True, False]),
        ({"top_p": 0.05}, [True, False, False, False]),
        ({"min_p": 1.0}, [True, False, False, False]),
    ],
    ids=str,
)
def test_equal_logits_are_kept_together(filters: dict[str, float], expected: list[bool]) -> None:
    # probabilities 0.4, 0.2, 0.2, 0.2 of the first three ties and a last one below
    logits = torch.tensor([[0.4, 0.25, 0.25, 0.1]]).log()
    given = settings(1, **filters)

    is_kept = reference.kept_tokens(
        logits, given["temperature"], *(given.get(name) for name in ("top_k", "top_p", "min_p"))
    )

    assert is_kept.tolist() == [expected]


@pytest.mark.parametrize("backend", ["reference", "gpu"])
def test_greedy_takes_the_lowest_of_equal_ids(backend: Backend) -> None:
    logits = torch.zeros(2, 3000)
    logits[0, [2500, 70, 2999]] = 1.0

    with interpret(), use_backend(backend):
        ids, _ = sample(logits, **settings(2, temperature=0.0))

    assert ids.tolist() == [70, 0]


@pytest.mark.parametrize("backend", ["reference", "gpu"])
def test_draw_does_not_depend_on_the_neighbors(backend: Backend) -> None:
    logits = random_logits(10, 100)
    given = settings(10)
    alone = {name: value[5:8] for name, value in given.items()}

    with interpret(), use_backend(backend):
        together, _ = sample(logits, **given)
        few, _ = sample(logits[5:8], **alone)

    assert few.tolist() == together[5:8].tolist()


def test_draws_have_the_frequencies_of_the_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.1])
    draws = 20_000
    arguments = settings(draws) | {"seeds": torch.full((draws,), 3)}

    ids, _ = sample(probabilities.log().expand(draws, 4), **arguments)

    deviations = ids.bincount(minlength=4) - draws * probabilities
    # five standard deviations of a binomial count
    allowed = 5 * (draws * probabilities * (1 - probabilities)).sqrt()
    assert bool((deviations.abs() < allowed).all())


def test_exponential_numbers_follow_their_distribution() -> None:
    seeds, positions = torch.tensor([5]), torch.tensor([9])

    numbers = exponentials(seeds, positions, 200_000)[0].double().sort().values

    ranks = (torch.arange(200_000) + 0.5) / 200_000
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is passed in one of a thousand samples
    assert (ranks - (1 - (-numbers).exp())).abs().max() < 1.95 / 200_000**0.5


def test_weights_are_those_of_the_softmax() -> None:
    scores = random_logits(2, 5000)

    weights = relative_weights(exponents(scores, torch.tensor([0.7, 3.0])))

    exact = (scores.double() - scores.amax(dim=1, keepdim=True)) / torch.tensor([[0.7], [3.0]])
    # relative: the polynomial's 1e-7 and the roundings of exponents up to 50
    torch.testing.assert_close(weights.double(), exact.exp(), rtol=50 * 2.0**-23, atol=0)
    assert mass(weights).amax(dim=1).tolist() == [2**40, 2**40]


# NaN, +infinity, nothing left, and a row that is well among tokens that are masked
STRANGE = torch.tensor(
    [[0.0, NAN, 1.0], [0.0, INFINITY, 1.0], [-INFINITY] * 3, [-INFINITY, 2.0, -INFINITY]]
)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("backend", ["reference", "gpu"])
def test_rows_without_a_distribution_have_no_logprob(backend: Backend, temperature: float) -> None:
    with interpret(), use_backend(backend):
        ids, logprobs = sample(STRANGE, **settings(4, temperature=temperature, top_p=0.9, top_k=2))

    assert ids.tolist() == [0, 0, 0, 1]
    assert logprobs.isnan().tolist() == [True, True, True, False]
    assert logprobs[3] == 0


def test_strided_rows_equal_dense_ones() -> None:
    logits = random_logits(10, 90)[:, ::3]

    (ids, _), (expected, _) = both(logits, **settings(10))

    assert ids.tolist() == expected.tolist()


def test_no_rows_give_no_tokens() -> None:
    (ids, logprobs), _ = both(torch.zeros(0, 5), **settings(0))

    assert ids.tolist() == logprobs.tolist() == []


@pytest.mark.parametrize("name", ["sample", "penalize"])
def test_operation_obeys_the_rules_of_torch_library(name: str) -> None:
    logits, penalties = random_logits(2, 11, torch.bfloat16), make_penalties(2)
    given = settings(2, top_k=3, top_p=0.9, min_p=0.1)
    filters = [given[key] for key in ("seeds", "positions", "top_k", "top_p", "min_p")]
    arguments = {
        "sample": (logits, None, given["temperature"], *filters, "gpu"),
        "penalize": (logits, *dataclasses.astuple(penalties), "gpu"),
    }

    with interpret():
        torch.library.opcheck(getattr(torch.ops.weldlm, name).default, arguments[name])


@pytest.mark.parametrize("backend", ["reference", "gpu"])
def test_compiled_equals_eager(backend: Backend) -> None:
    given, penalties = settings(6), make_penalties(6)

    def call(logits: Tensor) -> tuple[Tensor, Tensor]:
        return sample(logits, **given, penalties=penalties)

    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)

    with interpret(), use_backend(backend):
        actual, expected = compiled(random_logits(6, 11)), call(random_logits(6, 11))

    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": torch.zeros(4)}, ValueError, r"logits \(4,\); expected \[B, vocab_size\]"),
        ({"logits": torch.zeros(2, 4).long()}, TypeError, "logits is torch.int64"),
        ({"seeds": torch.zeros(3).long()}, ValueError, r"seeds is \(3,\) on cpu; expected \(2,\)"),
        ({"top_k": torch.ones(2)}, TypeError, "top_k is torch.float32; expected torch.int32 or"),
        ({"top_p": torch.ones(2).double()}, TypeError, "top_p is torch.float64; expected"),
        ({"penalties": make_penalties(3)}, ValueError, r"history_offsets is \(4,\)"),
    ],
    ids=["shape", "integers", "seeds", "top_k", "top_p", "penalties"],
)
def test_what_does_not_fit_is_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"logits": torch.zeros(2, 4)} | settings(2) | change

    with pytest.raises(error, match=message):
        sample(**arguments)
