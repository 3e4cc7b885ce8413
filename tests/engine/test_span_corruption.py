from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weldlm.objectives import SpanCorruptionObjective
from weldlm.packing import PackedBatch

VOCAB_SIZE, START, EOS, FIRST = 1_000, 0, 1, 999
OBJECTIVE = SpanCorruptionObjective(
    vocab_size=VOCAB_SIZE, first_sentinel=FIRST, eos_id=EOS, start_id=START
)
LOWEST = FIRST - OBJECTIVE.num_sentinels + 1
# the critical value of chi-square with 5 degrees of freedom at p = 0.001
CHI_SQUARE_5 = 20.5


def batch_of(lengths: list[int]) -> PackedBatch:
    ids = torch.arange(sum(lengths)) % 800 + 2
    return PackedBatch.from_lengths(ids, lengths)


def sequences(batch: PackedBatch, values: torch.Tensor) -> list[list[int]]:
    return [part.tolist() for part in values.split(batch.offsets.diff().tolist())]


def put_together(source: list[int], target: list[int]) -> list[int]:
    """The text that was corrupted: each sentinel of the source gives way to its span."""
    spans: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token >= LOWEST:
            spans[token] = current = []
        else:
            current.append(token)
    return [t for token in source[:-1] for t in spans.get(token, [token])]


def noise_of_t5(length: int, share: float = 0.15, mean_span: float = 3.0) -> tuple[int, int]:
    """Tokens and spans that T5's random_spans_noise_mask hides of a sequence."""
    num_noise = int(np.round(length * share))
    num_noise = min(max(num_noise, 1), length - 1)
    num_spans = max(int(np.round(num_noise / mean_span)), 1)
    return num_noise, num_spans


@given(st.lists(st.integers(0, 300), max_size=6), st.integers(0, 2**62))
def test_source_and_target_hold_the_text(lengths: list[int], seed: int) -> None:
    batch = batch_of(lengths)

    encoder, decoder, labels = replace(OBJECTIVE, seed=seed)(batch, range(len(lengths)))

    sources, targets = sequences(encoder, encoder.ids), sequences(decoder, labels)
    found = [put_together(*pair) for pair in zip(sources, targets, strict=True)]
    assert found == sequences(batch, batch.ids)
    assert all(sequence[-1] == EOS for sequence in [*sources, *targets])


@pytest.mark.parametrize("length", [2, 3, 10, 17, 100, 512, 601])
def test_as_much_is_hidden_as_t5_hides(length: int) -> None:
    _, _, labels = OBJECTIVE(batch_of([length]), [0])

    num_noise, num_spans = noise_of_t5(length)
    assert sum(labels >= LOWEST) == num_spans
    assert len(labels) == num_noise + num_spans + 1


def test_sentinels_count_down_in_source_and_target() -> None:
    encoder, _, labels = OBJECTIVE(batch_of([100]), [0])

    expected = [FIRST - span for span in range(5)]
    assert encoder.ids[encoder.ids >= LOWEST].tolist() == expected
    assert labels[labels >= LOWEST].tolist() == expected


def test_decoder_reads_its_labels_one_place_later() -> None:
    _, decoder, labels = OBJECTIVE(batch_of([40, 1, 0, 60]), [5, 6, 7, 8])

    for read, said in zip(sequences(decoder, decoder.ids), sequences(decoder, labels), strict=True):
        assert read == [START, *said[:-1]]


def test_every_placement_is_equally_likely() -> None:
    # 3 of 7 tokens in 2 spans: 2 cuts of the hidden ones by 3 of those that stay
    objective = replace(OBJECTIVE, share=3 / 7, mean_span=1.5)
    count, placements = 6_000, 6
    batch = PackedBatch.from_lengths(torch.arange(2, 9).repeat(count), [7] * count)

    encoder, _, _ = objective(batch, range(count))

    found = Counter(map(tuple, sequences(encoder, encoder.ids)))
    expected = count / placements
    assert len(found) == placements
    assert sum((n - expected) ** 2 / expected for n in found.values()) < CHI_SQUARE_5


def test_a_sample_is_corrupted_alike_in_any_batch() -> None:
    batch = batch_of([30, 40, 50])
    alone = PackedBatch.from_lengths(batch.ids[30:70], [40])

    encoder, decoder, labels = OBJECTIVE(batch, [7, 8, 9])
    own_encoder, own_decoder, own_labels = OBJECTIVE(alone, [8])

    assert sequences(encoder, encoder.ids)[1] == own_encoder.ids.tolist()
    assert sequences(decoder, decoder.ids)[1] == own_decoder.ids.tolist()
    assert sequences(decoder, labels)[1] == own_labels.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": -0.1}, r"share is -0.1; expected 0 to 1"),
        ({"mean_span": 0.5}, r"mean_span is 0.5; expected at least 1"),
        ({"num_sentinels": 0}, r"num_sentinels is 0; expected at least 1"),
        ({"num_sentinels": 1_001}, r"the last sentinel is -1; expected 0 to 999"),
        ({"eos_id": 1_000}, r"eos_id is 1000; expected 0 to 999"),
    ],
    ids=["share", "span", "sentinels", "last", "eos"],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(OBJECTIVE, **changes)


def test_a_sequence_of_more_spans_than_sentinels_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"of 3000 tokens needs 150 sentinels; expected at most 100"
    ):
        OBJECTIVE(batch_of([3_000]), [0])
