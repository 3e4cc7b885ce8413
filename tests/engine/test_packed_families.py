"""Every family on the plain PyTorch backend: packed equals alone, and no document leaks.

The tests of the families do the same on the backend that is chosen here by itself.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.engine import test_decoder_families as decoders
from tests.engine import test_encoder_families as encoders
from tests.engine import test_seq2seq_families as seq2seqs
from tests.engine.their_models import packed_logits, ragged_ids
from weldlm.heads import MaskedLM, Model
from weldlm_kernels.backend import use_backend

ONE_STACK = pytest.mark.parametrize("name", [*decoders.CASES, *encoders.CASES])


def ours_of(name: str, folder: Path) -> Model:
    if name in decoders.CASES:
        return decoders.ours_of(name, folder)
    ours: Model = encoders.ours_of(encoders.theirs_of(name, "ForMaskedLM"), MaskedLM, folder)
    return ours


def plain_logits(model: Model, *sequences: Tensor) -> Tensor:
    with torch.no_grad(), use_backend("reference"):
        return packed_logits(model, list(sequences))


@ONE_STACK
def test_packed_equals_one_by_one(tmp_path: Path, name: str) -> None:
    ours, sequences = ours_of(name, tmp_path), ragged_ids(7, 1, 30, 13)

    packed = plain_logits(ours, *sequences)

    alone = torch.cat([plain_logits(ours, ids) for ids in sequences])
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


@ONE_STACK
def test_a_changed_token_leaks_into_no_other_document(tmp_path: Path, name: str) -> None:
    ours, (first, second) = ours_of(name, tmp_path), ragged_ids(9, 11)

    before, after = plain_logits(ours, first, second), plain_logits(ours, first.flip(0), second)

    assert torch.equal(before[9:], after[9:])
    assert not torch.equal(before[:9], after[:9])


@seq2seqs.FAMILIES
def test_packed_pairs_equal_one_by_one(tmp_path: Path, name: str) -> None:
    ours, (sources, targets) = seq2seqs.ours_of(name, tmp_path), seq2seqs.pairs()

    with torch.no_grad(), use_backend("reference"):
        packed = seq2seqs.packed_logits(ours, sources, targets)
        pairs = zip(sources, targets, strict=True)
        alone = torch.cat([seq2seqs.packed_logits(ours, [s], [t]) for s, t in pairs])

    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


@seq2seqs.FAMILIES
def test_a_changed_source_leaks_into_no_other_target(tmp_path: Path, name: str) -> None:
    ours, (first, second, target) = seq2seqs.ours_of(name, tmp_path), ragged_ids(9, 11, 9)

    with torch.no_grad(), use_backend("reference"):
        before = seq2seqs.packed_logits(ours, [first, second], [target, second])
        after = seq2seqs.packed_logits(ours, [first.flip(0), second], [target, second])

    assert torch.equal(before[9:], after[9:])
    assert not torch.equal(before[:9], after[:9])
