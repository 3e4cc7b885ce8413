from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from weldlm import Tokenizer
from weldlm.objectives import IGNORED, MaskedLMObjective, word_starts
from weldlm.packing import PackedBatch
from weldlm.tokenizer.wordpiece_training import WordPieceSettings

VOCAB_SIZE, CLS, SEP, MASK = 64, 0, 1, 2
OBJECTIVE = MaskedLMObjective(vocab_size=VOCAB_SIZE, mask_id=MASK, special_ids=[CLS, SEP, MASK])
# critical values of chi-square at p = 0.001
CHI_SQUARE = {1: 10.8, 2: 13.8, 60: 99.6}
BITS = (1 << 64) - 1


def random_batch(lengths: list[int]) -> PackedBatch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCAB_SIZE, (sum(lengths),), generator=generator)
    return PackedBatch.from_lengths(ids, lengths)


def chi_square(found: Any, expected: Any) -> float:
    return float(((np.asarray(found) - expected) ** 2 / expected).sum())


def mixed(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & BITS
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & BITS
    return x ^ (x >> 31)


def plain_hide(ids: list[int], sample_id: int, seed: int) -> tuple[list[int], list[int]]:
    """What the objective does to one sequence, in plain Python."""
    step = 0x9E3779B97F4A7C15
    key = mixed(mixed(seed + step & BITS) + sample_id * step & BITS)
    draws = [mixed(key + (index + 1) * step & BITS) for index in range(3 * len(ids))]
    hidden, labels = list(ids), [IGNORED] * len(ids)
    for place, token in enumerate(ids):
        chosen, fate, other = draws[3 * place : 3 * place + 3]
        if token in OBJECTIVE.special_ids or (chosen >> 11) * 2.0**-53 >= 0.15:
            continue
        labels[place] = token
        if (fate >> 11) * 2.0**-53 < 0.8:
            hidden[place] = MASK
        elif (fate >> 11) * 2.0**-53 < 0.9:
            hidden[place] = other % VOCAB_SIZE
    return hidden, labels


def test_tokens_are_hidden_as_in_plain_python() -> None:
    batch = random_batch([0, 5, 200])
    batch.ids[[0, 4, 17]] = CLS

    hidden, labels = replace(OBJECTIVE, seed=11)(batch, [3, 9, 2**40])

    pairs = [
        plain_hide(batch.ids[:5].tolist(), 9, 11),
        plain_hide(batch.ids[5:].tolist(), 2**40, 11),
    ]
    assert hidden.ids.tolist() == [*pairs[0][0], *pairs[1][0]]
    assert labels.tolist() == [*pairs[0][1], *pairs[1][1]]


def test_a_sample_is_hidden_alike_in_any_batch() -> None:
    batch = random_batch([30, 40, 50])
    alone = PackedBatch.from_lengths(batch.ids[30:70], [40])

    together, labels = OBJECTIVE(batch, [7, 8, 9])
    hidden, own_labels = OBJECTIVE(alone, [8])

    assert hidden.ids.equal(together.ids[30:70])
    assert own_labels.equal(labels[30:70])


@pytest.mark.parametrize(("seed", "sample_id"), [(1, 0), (0, 1)], ids=["seed", "sample"])
def test_seed_and_sample_each_change_the_choice(seed: int, sample_id: int) -> None:
    batch = random_batch([200])

    assert not torch.equal(
        OBJECTIVE(batch, [0])[1], replace(OBJECTIVE, seed=seed)(batch, [sample_id])[1]
    )


def test_the_batch_itself_stays_as_it_is() -> None:
    batch = random_batch([100])
    before = batch.ids.clone()

    OBJECTIVE(batch, [0])

    assert batch.ids.equal(before)


def test_shares_and_fates_are_those_asked_for() -> None:
    batch = random_batch([100] * 2_000)
    hidden, labels = OBJECTIVE(batch, range(2_000))
    chosen = labels != IGNORED
    masked = int((chosen & (hidden.ids == MASK)).sum())
    kept = int((chosen & (hidden.ids == batch.ids)).sum())
    count, total = int(chosen.sum()), batch.num_tokens
    # a random id is the mask or the true one in 2 of VOCAB_SIZE cases
    same = 0.1 / VOCAB_SIZE

    assert chi_square([count, total - count], np.array([0.15, 0.85]) * total) < CHI_SQUARE[1]
    shares = np.array([0.8 + same, 0.1 + same, 0.1 - 2 * same])
    assert chi_square([masked, kept, count - masked - kept], shares * count) < CHI_SQUARE[2]


def test_random_ids_are_uniform() -> None:
    batch = random_batch([100] * 2_000)
    objective = replace(OBJECTIVE, mask_share=0.0, random_share=1.0, share=1.0)
    hidden, _ = objective(batch, range(2_000))
    counts = np.bincount(hidden.ids.numpy(), minlength=VOCAB_SIZE)[:61]

    assert chi_square(counts, batch.num_tokens / VOCAB_SIZE) < CHI_SQUARE[60]


def test_special_tokens_and_tokens_of_no_sequence_are_never_chosen() -> None:
    ids = torch.tensor([CLS, 5, SEP, 6, 7])
    batch = PackedBatch.from_lengths(ids, [3])

    hidden, labels = replace(OBJECTIVE, share=1.0, mask_share=1.0, random_share=0.0)(batch, [0])

    assert hidden.ids.tolist() == [CLS, MASK, SEP, 6, 7]
    assert labels.tolist() == [IGNORED, 5, IGNORED, IGNORED, IGNORED]


def test_words_are_chosen_whole() -> None:
    starts = np.arange(VOCAB_SIZE) % 3 == 0
    batch = random_batch([3_000])
    batch.ids[500] = SEP
    word = np.cumsum(starts[batch.ids.numpy()] | (batch.ids.numpy() == SEP))
    word[501:] += 1  # what follows a special token is a word of its own

    _, labels = replace(OBJECTIVE, word_starts=starts, share=0.3)(batch, [0])

    chosen = (labels != IGNORED).numpy()
    words = {int(w): set(chosen[(word == w) & (batch.ids.numpy() != SEP)]) for w in np.unique(word)}
    assert {len(fates) for fates in words.values()} <= {0, 1}
    count = sum(True in fates for fates in words.values())
    expected = np.array([0.3, 0.7]) * len(words)
    assert chi_square([count, len(words) - count], expected) < CHI_SQUARE[1]


def test_word_starts_of_wordpiece_are_tokens_without_its_mark() -> None:
    tokenizer = Tokenizer.train(["unhappily happily happy"] * 20, 30, algorithm=WordPieceSettings())
    starts = word_starts(tokenizer)

    words = tokenizer.encode("happy happily", add_special_tokens=False)

    assert sum(starts[words]) == 2


def test_word_starts_of_byte_level_bpe_are_tokens_behind_a_space() -> None:
    tokenizer = Tokenizer.train(["a happy ## house"] * 20, 268)
    starts = word_starts(tokenizer)

    words = tokenizer.encode("x happy ## house", add_special_tokens=False)

    assert sum(starts[words]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.5}, r"share is 1.5; expected 0 to 1"),
        ({"mask_share": 0.95}, r"add up to more than 1"),
        ({"mask_id": 64}, r"mask_id is 64; expected 0 to 63"),
        ({"special_ids": [70]}, r"special_ids holds 70"),
        ({"word_starts": np.ones(3, bool)}, r"word_starts \(3,\)"),
    ],
    ids=["share", "shares", "mask", "special", "words"],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(OBJECTIVE, **changes)


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE], ids=["negative", "too large"])
def test_ids_outside_the_vocabulary_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match=f"holds the id {token}; expected 0 to 63"):
        OBJECTIVE(PackedBatch.from_lengths(torch.tensor([5, token]), [2]), [0])


def test_too_few_sample_ids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sample_ids \(1,\) for 2 sequences"):
        OBJECTIVE(random_batch([3, 4]), [0])
