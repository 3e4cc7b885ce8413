"""fp32 weights under autocast: no further from the exact result than twice what transformers is."""

import copy
from pathlib import Path

import pytest
import torch

from tests.engine import test_decoder_families as decoders
from tests.engine import test_encoder_families as encoders
from tests.engine import test_seq2seq_families as seq2seqs
from tests.engine.test_bf16_families import both_logits
from tests.engine.their_models import packed_logits, ragged_ids
from tests.engine.tiny_models import tiny_model
from tests.tolerance import assert_within_tolerance
from weldlm.heads import MaskedLM, Seq2SeqLM
from weldlm.packing import PackedBatch
from weldlm.precision import Dtype, autocast
from weldlm.weights import load_pretrained

CPU = torch.device("cpu")
HALVES = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


@HALVES
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_decoders(tmp_path: Path, name: str, dtype: Dtype) -> None:
    theirs, sequences = decoders.theirs_of(name), ragged_ids(31, 17, 1)
    theirs.save_pretrained(tmp_path)

    with torch.no_grad(), autocast(dtype, CPU):
        logits = packed_logits(load_pretrained(tmp_path), sequences)
        narrow, _ = both_logits(theirs, theirs, sequences)
    with torch.no_grad():
        _, exact = both_logits(theirs, copy.deepcopy(theirs).double(), sequences)

    assert_within_tolerance(f"{name} in {dtype}", logits, narrow, exact)


@HALVES
def test_bert(tmp_path: Path, dtype: Dtype) -> None:
    theirs, sequences = encoders.theirs_of("bert", "ForMaskedLM"), ragged_ids(31, 17, 1)
    theirs.save_pretrained(tmp_path)

    with torch.no_grad(), autocast(dtype, CPU):
        logits = packed_logits(load_pretrained(tmp_path, MaskedLM), sequences)
        narrow, _ = both_logits(theirs, theirs, sequences)
    with torch.no_grad():
        _, exact = both_logits(theirs, copy.deepcopy(theirs).double(), sequences)

    assert_within_tolerance(f"bert in {dtype}", logits, narrow, exact)


@HALVES
def test_t5(tmp_path: Path, dtype: Dtype) -> None:
    name = next(name for name in seq2seqs.CASES if name.startswith("t5"))
    theirs, pairs = seq2seqs.theirs_of(name), seq2seqs.pairs()
    theirs.save_pretrained(tmp_path)

    with torch.no_grad(), autocast(dtype, CPU):
        logits = seq2seqs.packed_logits(load_pretrained(tmp_path, Seq2SeqLM), *pairs)
        narrow, _ = both_logits(theirs, theirs, *pairs)
    with torch.no_grad():
        _, exact = both_logits(theirs, copy.deepcopy(theirs).double(), *pairs)

    assert_within_tolerance(f"t5 in {dtype}", logits, narrow, exact)


@HALVES
def test_loss_is_summed_in_fp32(dtype: Dtype) -> None:
    """It exceeds what float16 can hold, and is as exact as fp32 products of the same logits."""
    model = tiny_model(tie_embeddings=False)
    assert model.head is not None
    with torch.no_grad():
        model.head.weight.mul_(100)
    batch = PackedBatch.from_sequences([torch.arange(64)] * 20)
    labels = batch.ids.roll(-1)

    with torch.no_grad(), autocast(dtype, CPU):
        loss, _ = model(batch, labels)
        logits = model.logits(batch)
    expected = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum")

    assert loss.dtype == torch.float32
    assert loss > torch.finfo(torch.float16).max
    # logits are rounded once more on their way out of `logits`: by eps of their largest, each way
    rounding = 2 * torch.finfo(logits.dtype).eps * logits.abs().max() * len(labels)
    assert abs(loss - expected) <= rounding
