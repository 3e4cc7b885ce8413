"""Every family in bf16: no further from the exact result than twice what transformers is."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine import test_decoder_families as decoders
from tests.engine import test_encoder_families as encoders
from tests.engine import test_seq2seq_families as seq2seqs
from tests.engine.their_models import packed_logits, ragged_ids
from tests.tolerance import assert_within_tolerance
from weldlm.heads import MaskedLM, Seq2SeqLM
from weldlm.weights import load_pretrained

DTYPES = (torch.bfloat16, torch.float64)


def rounded(theirs: Any) -> tuple[Any, Any]:
    """The model in bf16, and with the same weights in fp64."""
    narrow = theirs.to(torch.bfloat16)
    return narrow, copy.deepcopy(narrow).double()


def both_logits(narrow: Any, exact: Any, *sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of both models, sequences end to end, one by one."""
    call = seq2seqs.their_logits if len(sequences) > 1 else encoders.their_logits
    rows = list(zip(*sequences, strict=True))
    narrow_rows = torch.cat([call(narrow, *row) for row in rows])
    return narrow_rows, torch.cat([call(exact, *row) for row in rows])


@pytest.mark.parametrize("name", decoders.CASES)
def test_decoders(tmp_path: Path, name: str) -> None:
    (narrow, exact), sequences = rounded(decoders.theirs_of(name)), ragged_ids(31, 17, 1)
    narrow.save_pretrained(tmp_path)

    with torch.no_grad():
        logits = packed_logits(load_pretrained(tmp_path), sequences)

        assert_within_tolerance(name, logits, *both_logits(narrow, exact, sequences))


@pytest.mark.parametrize("name", encoders.CASES)
def test_encoders(tmp_path: Path, name: str) -> None:
    theirs, sequences = encoders.theirs_of(name, "ForMaskedLM"), ragged_ids(31, 17, 1)
    narrow, exact = rounded(theirs)
    narrow.save_pretrained(tmp_path)

    with torch.no_grad():
        logits = packed_logits(load_pretrained(tmp_path, MaskedLM), sequences)

        assert_within_tolerance(name, logits, *both_logits(narrow, exact, sequences))


@pytest.mark.parametrize("name", seq2seqs.CASES)
def test_encoder_decoders(tmp_path: Path, name: str) -> None:
    (narrow, exact), pairs = rounded(seq2seqs.theirs_of(name)), seq2seqs.pairs()
    narrow.save_pretrained(tmp_path)

    with torch.no_grad():
        logits = seq2seqs.packed_logits(load_pretrained(tmp_path, Seq2SeqLM), *pairs)

        assert_within_tolerance(name, logits, *both_logits(narrow, exact, *pairs))
