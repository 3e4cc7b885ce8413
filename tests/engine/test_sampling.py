"""Sampling: kept tokens are those of transformers, draws fit the distribution, rows stand alone."""

import math

import pytest
import torch
from torch import Tensor

from weldlm.sampling import (
    SamplingSettings,
    draw_tokens,
    filter_scores,
    sample,
    stream_keys,
)

VOCAB_SIZE = 700  # more than two blocks of the two-level draw, and no multiple of one


def random_logits(num_rows: int, vocab_size: int = VOCAB_SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(num_rows, vocab_size, generator=generator) * 2


def draw(logits: Tensor, *, first_row: int = 0, position: int = 3, **settings: float) -> Tensor:
    """One draw from each row of `logits`, row ids counting from `first_row`."""
    return sample(
        logits,
        SamplingSettings(**{"temperature": 1.0, **settings}),  # type: ignore[arg-type]
        row_ids=torch.arange(first_row, first_row + len(logits)),
        positions=torch.full((len(logits),), position),
    )


def their_scores(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """What transformers leaves of the scores with the same settings."""
    transformers = pytest.importorskip("transformers")
    options = {
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "typical_p": settings.typical_p,
    }
    config = transformers.GenerationConfig(do_sample=True, **options)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16)
    )
    processors = model._get_logits_processor(config, input_ids_seq_length=1)
    return processors(torch.zeros(len(logits), 1, dtype=torch.int64), logits)  # type: ignore[no-any-return]


FILTERS = [
    pytest.param({"temperature": 0.7}, id="temperature"),
    pytest.param({"top_k": 1}, id="top-k-1"),
    pytest.param({"top_k": 40}, id="top-k-40"),
    pytest.param({"top_k": 5_000}, id="top-k-over-vocabulary"),
    pytest.param({"top_p": 0.9}, id="top-p-0.9"),
    pytest.param({"top_p": 1e-6}, id="top-p-tiny"),
    pytest.param({"min_p": 0.05}, id="min-p"),
    pytest.param({"min_p": 1.0}, id="min-p-1"),
    pytest.param({"typical_p": 0.6}, id="typical"),
    pytest.param({"typical_p": 0.05}, id="typical-tiny"),
    pytest.param({"top_p": 0.9, "typical_p": 0.8, "top_k": 200}, id="typical-of-few"),
    pytest.param({"temperature": 1.7, "top_k": 300, "top_p": 0.8, "min_p": 0.02}, id="all"),
]


@pytest.mark.parametrize("filters", FILTERS)
def test_kept_tokens_and_their_scores_equal_those_of_transformers(
    filters: dict[str, float],
) -> None:
    settings = SamplingSettings(**{"temperature": 1.0, **filters})  # type: ignore[arg-type]
    logits = random_logits(64)

    scores = filter_scores(logits, settings)

    assert torch.equal(scores, their_scores(logits, settings))


@pytest.mark.parametrize("top_p", [0.1, 0.6, 0.99, 1 - 1e-7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_top_p_of_a_large_vocabulary_equals_that_of_all_tokens_sorted(
    top_p: float, dtype: torch.dtype
) -> None:
    logits = (random_logits(6, vocab_size=5_000) * 3).to(dtype)  # bf16: many tokens are equal
    settings = SamplingSettings(temperature=1.0, top_p=top_p)

    is_kept = filter_scores(logits, settings).isfinite()

    ascending, order = logits.float().sort(dim=-1, stable=True)
    is_dropped = ascending.double().softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    assert torch.equal(is_kept.gather(1, order), ~is_dropped)


def test_top_k_keeps_every_token_that_equals_the_last_kept_one() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    settings = SamplingSettings(temperature=1.0, top_k=2)

    scores = filter_scores(logits, settings)

    assert torch.equal(scores, their_scores(logits, settings))
    assert scores.isfinite().sum(dim=-1).tolist() == [4, 2]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"top_k": 50},
        {"top_p": 0.7},
        {"temperature": 0.5, "min_p": 0.01},
        {"typical_p": 0.5},
    ],
    ids=["none", "top-k", "top-p", "temperature-min-p", "typical"],
)
@pytest.mark.parametrize("by", ["row", "position"])
def test_draws_follow_the_distribution(filters: dict[str, float], by: str) -> None:
    num_draws, settings = 5_000, SamplingSettings(**{"temperature": 1.0, **filters})  # type: ignore[arg-type]
    logits = random_logits(1)
    counter, fixed = torch.arange(num_draws), torch.full((num_draws,), 9)

    ids = sample(
        logits.expand(num_draws, -1),
        settings,
        row_ids=counter if by == "row" else fixed,
        positions=fixed if by == "row" else counter,
    )

    expected = filter_scores(logits, settings)[0].double().softmax(dim=-1) * num_draws
    assert chi_square_z(torch.bincount(ids, minlength=VOCAB_SIZE), expected) < 4


def chi_square_z(counts: Tensor, expected: Tensor) -> float:
    """Pearson's statistic in standard deviations, rare tokens taken together (expected >= 10)."""
    is_rare = expected < 10
    counts = torch.cat((counts[~is_rare], counts[is_rare].sum().view(1))).double()
    expected = torch.cat((expected[~is_rare], expected[is_rare].sum().view(1)))
    statistic = ((counts - expected) ** 2 / expected.clamp(min=1e-300)).sum()
    freedom = len(expected) - 1
    return float((statistic - freedom) / math.sqrt(2 * freedom))


def test_dropped_tokens_are_never_drawn() -> None:
    logits = random_logits(5_000)
    settings = SamplingSettings(temperature=1.0, top_k=20, top_p=0.9)

    ids = draw(logits, top_k=20, top_p=0.9)

    assert filter_scores(logits, settings).gather(1, ids.view(-1, 1)).isfinite().all()


def test_greedy_takes_the_highest_score_and_the_lowest_id_of_equals() -> None:
    logits = torch.zeros(3, VOCAB_SIZE)
    logits[0, [40, 500]] = 1.0
    logits[1, 699] = 1.0

    assert draw(logits, temperature=0.0).tolist() == [40, 699, 0]


def test_greedy_in_bf16_takes_the_highest_score() -> None:
    logits = random_logits(50).bfloat16()

    assert torch.equal(draw(logits, temperature=0.0), logits.double().argmax(dim=-1))


def test_samples_of_a_row_are_draws_of_their_own() -> None:
    keys = torch.tensor(stream_keys(5, 3, range(2_000)))
    logits = random_logits(1).expand(2_000, -1)
    settings, positions = SamplingSettings(temperature=1.0), torch.full((2_000,), 9)

    _, ids = draw_tokens(logits, settings, keys, positions)

    expected = logits[0].double().softmax(dim=-1) * 2_000
    assert chi_square_z(torch.bincount(ids, minlength=VOCAB_SIZE), expected) < 4
    assert len(set(keys.tolist())) == 2_000
    assert ids[0] == draw(logits[:1], first_row=3, position=9, seed=5)


def test_a_row_draws_the_same_alone_and_among_others() -> None:
    logits = random_logits(40)

    together = draw(logits, top_k=30, top_p=0.95)
    alone = [draw(logits[row : row + 1], first_row=row, top_k=30, top_p=0.95) for row in range(40)]

    assert torch.equal(together, torch.cat(alone))


def test_a_row_draws_the_same_at_any_place_of_the_batch() -> None:
    logits, order = random_logits(40), torch.randperm(40, generator=torch.manual_seed(2))
    settings, positions = SamplingSettings(temperature=1.0), torch.arange(40) % 7

    ids = sample(logits, settings, row_ids=torch.arange(40), positions=positions)
    shuffled = sample(logits[order], settings, row_ids=order, positions=positions[order])

    assert torch.equal(shuffled, ids[order])


def test_the_last_bits_of_the_scores_hardly_ever_change_a_draw() -> None:
    logits = random_logits(8_000, vocab_size=300) / 4  # flat: hundreds of likely tokens
    noise = 1e-6 * torch.randn(logits.shape, generator=torch.manual_seed(4))

    changed = (draw(logits) != draw(logits + noise)).sum()

    # a race changes with probability of about the noise: 8,000 draws * 1e-6 * a few runners
    assert changed <= 1


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"position": 4}, {"first_row": 1}], ids=["seed", "position", "row"]
)
def test_seed_position_and_row_each_give_other_draws(other: dict[str, int]) -> None:
    logits = random_logits(1).expand(2_000, -1)

    agreement = (draw(logits) == draw(logits, **other)).double().mean()

    by_chance = logits[0].double().softmax(dim=-1).square().sum()
    assert abs(agreement - by_chance) < 5 * (by_chance / 2_000).sqrt()


def test_draws_are_those_of_every_platform() -> None:
    """The values come from an implementation of the same maths in Python's integers and floats."""
    logits = random_logits(6, vocab_size=1_000)

    ids = draw(logits, seed=2**63 - 1, first_row=2**40, position=77)

    probabilities = logits.double().softmax(dim=-1).tolist()
    expected = [
        python_draw(row, seed=2**63 - 1, row_id=2**40 + place, position=77)
        for place, row in enumerate(probabilities)
    ]
    assert ids.tolist() == expected


def python_draw(probabilities: list[float], *, seed: int, row_id: int, position: int) -> int:
    key = split_mix(split_mix(split_mix(seed, 0), row_id), position)
    blocks = [probabilities[start : start + 256] for start in range(0, len(probabilities), 256)]
    chances = [sum(p) / exponential(key, len(probabilities) + i) for i, p in enumerate(blocks)]
    start = 256 * chances.index(max(chances))
    block = probabilities[start : start + 256]
    chances = [p / exponential(key, start + i) for i, p in enumerate(block)]
    return start + chances.index(max(chances))


def split_mix(key: int, number: int) -> int:
    """Number `number` of the SplitMix64 stream `key`."""
    z = (key + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def exponential(key: int, number: int) -> float:
    return -math.log(((split_mix(key, number) >> 12) + 0.5) / 2**52)


@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "infinity"])
def test_scores_that_are_not_finite_are_reported_with_their_row(
    temperature: float, value: float
) -> None:
    logits = random_logits(3)
    logits[1, 8] = value

    with pytest.raises(FloatingPointError, match=r"scores for rows \[11\] are not finite"):
        draw(logits, first_row=10, temperature=temperature, top_k=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; expected at least 1"),
        ({"temperature": -0.5}, r"temperature is -0.5; expected 0 \(the most probable token\) or"),
        ({"temperature": 1e-9}, r"temperature is 1e-09; expected 0"),
        ({"temperature": math.nan}, "temperature is nan; expected 0"),
        ({"top_k": -1}, r"top_k is -1; expected 0 \(keep all\) or more"),
        ({"top_p": 0.0}, "top_p is 0.0; expected above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p is 1.1; expected above 0 and at most 1"),
        ({"min_p": 1.5}, r"min_p is 1.5; expected 0 \(keep all\) to 1"),
        ({"seed": -1}, "seed is -1; expected 0 to 9223372036854775807"),
        ({"stop": "end"}, "stop is 'end'; expected a tuple of texts"),
        ({"stop": ("",)}, "stop has an empty text; expected texts of at least one"),
        ({"stop_ids": (-3,)}, r"stop_ids is \(-3,\); expected ids of at least 0"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_refused_by_name(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**changes)  # type: ignore[arg-type]
