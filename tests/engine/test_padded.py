"""The padded border of every head: transformers' results where a token is real, zero elsewhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine import test_decoder_families as decoders
from tests.engine import test_encoder_families as encoders
from tests.engine import test_seq2seq_families as seq2seqs
from tests.engine.their_models import ragged_ids
from weldlm.heads import PaddedModel, Regressor, SentenceEmbedder, Seq2SeqLM
from weldlm.weights import load_pretrained

LENGTHS = (5, 17, 1, 31)
BY_TOKEN = ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering")


def padded(sequences: list[Tensor], *, is_left: bool = False) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, S]; the padding is of the id 0, or of ids that look real on the left."""
    side = "left" if is_left else "right"
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_side=side)
    ones = [torch.ones_like(sequence) for sequence in sequences]
    mask = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)
    return torch.where(mask == 1, ids, 9 if is_left else 0), mask


@pytest.mark.parametrize("name", ["llama3-rope", "mistral", "qwen3", "gemma3"])
def test_decoders_equal_transformers(tmp_path: Path, name: str) -> None:
    theirs, (ids, mask) = decoders.theirs_of(name), padded(ragged_ids(*LENGTHS))
    theirs.save_pretrained(tmp_path)

    with torch.no_grad():
        scores = PaddedModel(load_pretrained(tmp_path))(ids, mask)
        expected = theirs(ids, attention_mask=mask).logits

    torch.testing.assert_close(scores, expected * mask.unsqueeze(2), rtol=0, atol=1e-5)


@encoders.EACH_HEAD
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_encoders_equal_transformers(tmp_path: Path, name: str, head: str) -> None:
    theirs, (ids, mask) = encoders.theirs_of(name, head), padded(ragged_ids(*LENGTHS))
    ours = encoders.ours_of(theirs, encoders.HEADS[head], tmp_path)

    with torch.no_grad():
        scores = PaddedModel(ours)(ids, mask)
        found = theirs(ids, attention_mask=mask)

    expected = (
        torch.stack((found.start_logits, found.end_logits), dim=2)
        if head == "ForQuestionAnswering"
        else found.logits
    )
    zeroed = expected * mask.unsqueeze(2) if head in BY_TOKEN else expected
    torch.testing.assert_close(scores, zeroed, rtol=0, atol=1e-5)


def test_regression_equals_transformers(tmp_path: Path) -> None:
    theirs = encoders.theirs_of("bert", "ForSequenceClassification", num_labels=1)
    ours, (ids, mask) = encoders.ours_of(theirs, Regressor, tmp_path), padded(ragged_ids(*LENGTHS))

    with torch.no_grad():
        predicted = PaddedModel(ours)(ids, mask)
        expected = theirs(ids, attention_mask=mask).logits

    torch.testing.assert_close(predicted, expected, rtol=0, atol=1e-5)


def test_token_types_equal_transformers(tmp_path: Path) -> None:
    theirs, (ids, mask) = encoders.theirs_of("bert", "ForMaskedLM"), padded(ragged_ids(*LENGTHS))
    ours = encoders.ours_of(theirs, encoders.HEADS["ForMaskedLM"], tmp_path)
    types = (torch.arange(ids.shape[1]) >= 3).long().expand_as(ids)

    with torch.no_grad():
        scores = PaddedModel(ours)(ids, mask, types)
        expected = theirs(ids, attention_mask=mask, token_type_ids=types).logits

    torch.testing.assert_close(scores, expected * mask.unsqueeze(2), rtol=0, atol=1e-5)


def test_embeddings_are_their_pooled_hidden_states(tmp_path: Path) -> None:
    theirs, (ids, mask) = encoders.theirs_of("bert", "Model"), padded(ragged_ids(*LENGTHS))
    ours = encoders.ours_of(theirs, SentenceEmbedder, tmp_path)

    with torch.no_grad():
        embeddings = PaddedModel(ours)(ids, mask)
        states = theirs(ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(2)

    expected = torch.nn.functional.normalize(states.sum(dim=1), dim=1)
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_encoder_decoders_equal_transformers(tmp_path: Path, name: str) -> None:
    theirs, (ids, mask) = seq2seqs.theirs_of(name), padded(ragged_ids(*LENGTHS))
    targets, target_mask = padded(ragged_ids(7, 2, 12, 1))
    theirs.save_pretrained(tmp_path)
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    given |= {"decoder_input_ids": targets, "decoder_attention_mask": target_mask}

    with torch.no_grad():
        scores = PaddedModel(load_pretrained(tmp_path, Seq2SeqLM))(**given)
        expected = theirs(**given).logits

    torch.testing.assert_close(scores, expected * target_mask.unsqueeze(2), rtol=0, atol=1e-5)


def ours_of_llama(folder: Path) -> PaddedModel:
    return PaddedModel(decoders.ours_of("llama", folder))


def test_padding_on_the_left_changes_nothing(tmp_path: Path) -> None:
    model, sequences = ours_of_llama(tmp_path), ragged_ids(*LENGTHS)

    with torch.no_grad():
        (left, left_mask), (right, mask) = padded(sequences, is_left=True), padded(sequences)
        scores, expected = model(left, left_mask), model(right, mask)

    assert torch.equal(scores[left_mask == 1], expected[mask == 1])
    assert not scores[left_mask == 0].any()


def test_no_mask_means_no_padding(tmp_path: Path) -> None:
    model, ids = ours_of_llama(tmp_path), torch.stack(ragged_ids(9, 9))

    with torch.no_grad():
        assert torch.equal(model(ids), model(ids, torch.ones_like(ids)))


def test_gradients_flow_to_every_weight(tmp_path: Path) -> None:
    theirs, (ids, mask) = decoders.theirs_of("llama"), padded(ragged_ids(*LENGTHS))
    ours = decoders.ours_of("llama", tmp_path / "theirs")
    direction = torch.randn(97, generator=torch.Generator().manual_seed(2))

    (PaddedModel(ours)(ids, mask) @ direction).square().sum().backward()
    found = theirs(ids, attention_mask=mask).logits * mask.unsqueeze(2)
    (found @ direction).square().sum().backward()

    errors = decoders.gradient_errors(ours, theirs, tmp_path / "gradients")
    assert max(errors.values()) <= 1e-5


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"attention_mask": (2, 5)}, r"input_ids \(2, 4\) and attention_mask \(2, 5\); expected"),
        ({"token_type_ids": (4,)}, r"token_type_ids \(4,\) and input_ids \(2, 4\); expected"),
        ({"decoder_input_ids": (2, 4)}, "decoder_input_ids was given to a model of llama"),
        ({"input_ids": (2, 65)}, "a row has 65 tokens; expected at most the model's context_"),
        ({"input_ids": (4,)}, r"input_ids \(4,\) and attention_mask \(4,\); expected two equal"),
    ],
    ids=["mask", "types", "targets", "length", "dimensions"],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    given = {"input_ids": (2, 4)} | shapes
    tensors = {name: torch.ones(shape, dtype=torch.int64) for name, shape in given.items()}

    with pytest.raises(ValueError, match=message):
        ours_of_llama(tmp_path)(**tensors)


def test_an_empty_row_has_no_embedding(tmp_path: Path) -> None:
    theirs = encoders.theirs_of("bert", "Model")
    ours = encoders.ours_of(theirs, SentenceEmbedder, tmp_path)

    with pytest.raises(ValueError, match="a row of attention_mask is all zero; expected a token"):
        PaddedModel(ours)(torch.ones(2, 3, dtype=torch.int64), torch.tensor([[1] * 3, [0] * 3]))


@pytest.mark.parametrize(
    ("targets", "message"),
    [(None, "decoder_input_ids is missing"), (3, "decoder_input_ids has 3 rows and input_ids 2")],
    ids=["none", "rows"],
)
def test_targets_that_do_not_fit_are_refused(
    tmp_path: Path, targets: int | None, message: str
) -> None:
    model = PaddedModel(seq2seqs.ours_of("t5", tmp_path))
    ids = torch.full((2, 4), 7)
    target_ids = None if targets is None else torch.full((targets, 2), 7)

    with pytest.raises(ValueError, match=message):
        model(ids, decoder_input_ids=target_ids)
