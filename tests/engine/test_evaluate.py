"""Bits per byte: against transformers' log-probabilities and against hand-made cases."""

import lzma
import math

import pytest
import torch
from torch.nn import functional

from tests.engine.tiny_models import tiny_model
from weldlm.evaluate import bits_per_byte, compress
from weldlm.packing import PackedBatch


def negative_log2(ids: list[int], first: int) -> float:
    """What the model pays for ids[first:] with all of `ids` before them as context."""
    with torch.no_grad():
        logits = tiny_model().logits(PackedBatch.from_sequences([ids])).double()
    loss = functional.cross_entropy(
        logits[first - 1 : -1], torch.tensor(ids[first:]), reduction="sum"
    )
    return float(loss) / math.log(2)


def test_short_documents_cost_what_they_cost_alone() -> None:
    documents = [[1, 2, 3, 4], [5, 6], [7, 8, 9]]

    measured = bits_per_byte(tiny_model(), documents, num_bytes=10)

    expected = sum(negative_log2(document, 1) for document in documents) / 10
    assert measured == pytest.approx(expected, rel=1e-5)


def test_long_document_predicts_every_token_once_with_most_context() -> None:
    ids = torch.randint(97, (150,), generator=torch.Generator().manual_seed(4)).tolist()

    measured = bits_per_byte(tiny_model(), [ids], num_bytes=1, stride=40)

    windows = [(0, 64, 1), (40, 104, 24), (80, 144, 24), (86, 150, 58)]
    expected = sum(negative_log2(ids[start:end], first) for start, end, first in windows)
    assert measured == pytest.approx(expected, rel=1e-5)


def test_a_lone_token_costs_nothing() -> None:
    assert bits_per_byte(tiny_model(), [[3]], num_bytes=1) == 0.0


@pytest.mark.parametrize("stride", [0, 64])
def test_stride_without_context_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"stride is {stride}; expected 1 to 63"):
        bits_per_byte(tiny_model(), [[1, 2]], num_bytes=1, stride=stride)


def test_no_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="the documents hold no bytes"):
        bits_per_byte(tiny_model(), [[1, 2]], num_bytes=0)


def test_compression_counts_bits_of_xz() -> None:
    texts = [b"abc" * 100, b"xyz" * 100]
    sizes = [len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) for text in texts]

    compression = compress(texts)

    assert compression.each_alone == pytest.approx(8 * sum(sizes) / 600)
    assert compression.all_in_one < compression.each_alone
