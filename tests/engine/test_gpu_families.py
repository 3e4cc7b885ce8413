"""Families whose attention has options run in Triton, where the reference would be refused."""

from pathlib import Path

import torch
from torch import Tensor

from tests.engine import test_decoder_families as decoders
from tests.engine import test_seq2seq_families as seq2seqs
from tests.engine.their_models import packed_logits, ragged_ids
from tests.kernels.interpreter import interpret
from weldlm_kernels.backend import Backend, use_backend


def test_gemma_in_triton_equals_the_reference(tmp_path: Path) -> None:
    ours, sequences = decoders.ours_of("gemma2", tmp_path), ragged_ids(9, 4)

    with torch.no_grad(), interpret(), use_backend("gpu"):
        actual = packed_logits(ours, sequences)

    with torch.no_grad(), use_backend("reference"):
        expected = packed_logits(ours, sequences)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def bias_gradients(folder: Path, backend: Backend) -> list[Tensor]:
    """Of the relative biases of a T5 model, the encoder's and the decoder's."""
    ours = seq2seqs.ours_of("t5", folder)
    with interpret(), use_backend(backend):
        logits = seq2seqs.packed_logits(ours, ragged_ids(25, 3), ragged_ids(4, 22))
        logits.square().sum().backward()
    gradients = [x.grad for name, x in ours.named_parameters() if "relative" in name]
    return [gradient for gradient in gradients if gradient is not None]


def test_the_biases_of_t5_learn_in_triton_as_in_the_reference(tmp_path: Path) -> None:
    actual = bias_gradients(tmp_path, "gpu")

    expected = bias_gradients(tmp_path, "reference")
    assert len(actual) == 2
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
