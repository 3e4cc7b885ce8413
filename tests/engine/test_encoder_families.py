"""Encoder families and their heads: outputs, loss and gradients of transformers, both ways."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.their_models import SIZES, gradient_errors, packed_logits, ragged_ids, their_model
from weldlm.heads import (
    MaskedLM,
    Model,
    QuestionAnswerer,
    Regressor,
    SentenceEmbedder,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm.packing import PackedBatch
from weldlm.weights import load_config, load_pretrained, save_pretrained

transformers = pytest.importorskip("transformers")

# model type -> (start of the class names, fields)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "distilbert": ("DistilBert", {"hidden_dim": 48, "max_position_embeddings": 64}),
    "modernbert": (
        "ModernBert",
        {
            "num_hidden_layers": 4,
            "local_attention": 8,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "classifier_pooling": "mean",
        },
    ),
}
HEADS: dict[str, type[Model]] = {
    "ForMaskedLM": MaskedLM,
    "ForSequenceClassification": SequenceClassifier,
    "ForTokenClassification": TokenClassifier,
    "ForQuestionAnswering": QuestionAnswerer,
}
FAMILIES = pytest.mark.parametrize("name", CASES)
EACH_HEAD = pytest.mark.parametrize("head", HEADS)
LENGTHS = (5, 17, 1, 31)


def theirs_of(name: str, head: str, **changes: Any) -> Any:
    start, fields = CASES[name]
    labels = {} if head == "ForQuestionAnswering" else {"num_labels": 3}
    config = transformers.AutoConfig.for_model(name, **{**SIZES, **labels, **fields, **changes})
    return their_model(config, start + head)


def ours_of(theirs: Any, head: type[Model], folder: Path) -> Any:
    theirs.save_pretrained(folder)
    return load_pretrained(folder, head)


def their_logits(model: Any, ids: Tensor) -> Tensor:
    """Of one sequence; start and end of a span side by side."""
    found = model(ids.unsqueeze(0))
    if "start_logits" in found:
        return torch.stack((found.start_logits[0], found.end_logits[0]), dim=1)
    return found.logits[0].view(-1, found.logits.shape[-1])  # type: ignore[no-any-return]


@FAMILIES
@EACH_HEAD
def test_their_folder_loads_with_equal_logits(tmp_path: Path, name: str, head: str) -> None:
    theirs, sequences = theirs_of(name, head), ragged_ids(*LENGTHS)
    ours = ours_of(theirs, HEADS[head], tmp_path)

    with torch.no_grad():
        logits = packed_logits(ours, sequences)

        expected = torch.cat([their_logits(theirs, ids) for ids in sequences])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@FAMILIES
def test_head_of_its_own_brings_its_own_bias(tmp_path: Path, name: str) -> None:
    theirs = theirs_of(name, "ForMaskedLM", tie_word_embeddings=False)
    (ids,) = ragged_ids(17)
    ours = ours_of(theirs, MaskedLM, tmp_path / "theirs")

    save_pretrained(ours, tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours").eval()

    with torch.no_grad():
        logits, expected = packed_logits(ours, [ids]), their_logits(theirs, ids)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(their_logits(again, ids), expected, rtol=0, atol=1e-5)


@FAMILIES
@EACH_HEAD
def test_our_folder_loads_in_transformers_with_equal_logits(
    tmp_path: Path, name: str, head: str
) -> None:
    theirs, (ids,) = theirs_of(name, head), ragged_ids(31)
    ours = ours_of(theirs, HEADS[head], tmp_path / "theirs")

    save_pretrained(ours, tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours").eval()

    with torch.no_grad():
        expected = their_logits(again, ids)
        torch.testing.assert_close(packed_logits(ours, [ids]), expected, rtol=0, atol=1e-5)
    assert load_config(tmp_path / "ours") == ours.config


def labels_for(head: str, sequences: list[Tensor]) -> Tensor:
    """Labels of equally long sequences in the form that transformers takes, -100 among them."""
    generator = torch.Generator().manual_seed(4)
    shape, top = (len(sequences), len(sequences[0])), 3
    if head == "ForSequenceClassification":
        return torch.randint(3, shape[:1], generator=generator)
    if head == "ForQuestionAnswering":
        return torch.randint(shape[1], (shape[0], 2), generator=generator)
    if head == "ForMaskedLM":
        top = 97
    labels = torch.randint(top, shape, generator=generator)
    labels[:, ::3] = -100
    return labels


def their_loss(model: Any, head: str, ids: Tensor, labels: Tensor) -> Tensor:
    if head == "ForQuestionAnswering":
        return model(ids, start_positions=labels[:, 0], end_positions=labels[:, 1]).loss  # type: ignore[no-any-return]
    return model(ids, labels=labels).loss  # type: ignore[no-any-return]


@FAMILIES
@EACH_HEAD
def test_loss_and_every_gradient_equal_transformers(tmp_path: Path, name: str, head: str) -> None:
    theirs, sequences = theirs_of(name, head), ragged_ids(19, 19, 19)
    ours, labels = ours_of(theirs, HEADS[head], tmp_path / "theirs"), labels_for(head, sequences)
    is_by_token = head in ("ForMaskedLM", "ForTokenClassification")

    loss_sum, count = ours(
        PackedBatch.from_sequences(sequences), labels.flatten() if is_by_token else labels
    )
    (loss_sum / count).backward()
    expected = their_loss(theirs, head, torch.stack(sequences), labels)
    expected.backward()

    torch.testing.assert_close(loss_sum / count, expected, rtol=0, atol=1e-6)
    assert max(gradient_errors(ours, theirs, tmp_path / "gradients").values()) <= 1e-5


@FAMILIES
def test_regression_equals_transformers(tmp_path: Path, name: str) -> None:
    theirs = theirs_of(name, "ForSequenceClassification", num_labels=1, problem_type="regression")
    ours, sequences = ours_of(theirs, Regressor, tmp_path / "theirs"), ragged_ids(9, 9, 9)
    labels = torch.tensor([0.5, -1.0, 2.0])

    loss_sum, count = ours(PackedBatch.from_sequences(sequences), labels)
    (loss_sum / count).backward()
    expected = theirs(torch.stack(sequences), labels=labels).loss
    expected.backward()

    torch.testing.assert_close(loss_sum / count, expected, rtol=1e-6, atol=1e-6)
    assert max(gradient_errors(ours, theirs, tmp_path / "gradients").values()) <= 1e-5


@FAMILIES
def test_a_saved_regression_says_so(tmp_path: Path, name: str) -> None:
    theirs = theirs_of(name, "ForSequenceClassification", num_labels=1)

    save_pretrained(ours_of(theirs, Regressor, tmp_path / "theirs"), tmp_path / "ours")

    again = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    assert (again.problem_type, again.num_labels) == ("regression", 1)


@FAMILIES
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_embeddings_are_their_pooled_hidden_states(tmp_path: Path, name: str, pooling: Any) -> None:
    theirs, sequences = theirs_of(name, "Model"), ragged_ids(*LENGTHS)
    ours = ours_of(theirs, SentenceEmbedder, tmp_path)

    with torch.no_grad():
        embeddings = ours(PackedBatch.from_sequences(sequences), pooling=pooling)

        states = [theirs(ids.unsqueeze(0)).last_hidden_state[0] for ids in sequences]
    pooled = torch.stack([x[0] if pooling == "first" else x.mean(dim=0) for x in states])
    expected = pooled / pooled.norm(dim=1, keepdim=True)
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-5)


@FAMILIES
def test_a_saved_embedder_loads_in_transformers(tmp_path: Path, name: str) -> None:
    theirs, (ids,) = theirs_of(name, "Model"), ragged_ids(9)
    ours = ours_of(theirs, SentenceEmbedder, tmp_path / "theirs")

    save_pretrained(ours, tmp_path / "ours")
    again = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()

    with torch.no_grad():
        expected = theirs(ids.unsqueeze(0)).last_hidden_state
        states = again(ids.unsqueeze(0)).last_hidden_state
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)


def test_token_types_equal_transformers(tmp_path: Path) -> None:
    theirs, sequences = theirs_of("bert", "ForMaskedLM"), ragged_ids(9, 4)
    ours = ours_of(theirs, MaskedLM, tmp_path)
    types = torch.tensor([0] * 5 + [1] * 4 + [0, 1, 1, 1])
    batch = replace(PackedBatch.from_sequences(sequences), token_types=types)

    with torch.no_grad():
        logits = ours.logits(batch)

        expected = torch.cat(
            [
                theirs(ids.unsqueeze(0), token_type_ids=part.unsqueeze(0)).logits[0]
                for ids, part in zip(sequences, types.split([9, 4]), strict=True)
            ]
        )
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@FAMILIES
@EACH_HEAD
def test_packed_equals_one_by_one(tmp_path: Path, name: str, head: str) -> None:
    ours = ours_of(theirs_of(name, head), HEADS[head], tmp_path)
    sequences = ragged_ids(7, 1, 30, 13)

    with torch.no_grad():
        packed = packed_logits(ours, sequences)
        alone = torch.cat([packed_logits(ours, [ids]) for ids in sequences])

    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


@FAMILIES
def test_a_changed_token_leaks_into_no_other_document(tmp_path: Path, name: str) -> None:
    ours = ours_of(theirs_of(name, "ForMaskedLM"), MaskedLM, tmp_path)
    first, second = ragged_ids(9, 11)

    with torch.no_grad():
        before = packed_logits(ours, [first, second])
        after = packed_logits(ours, [first.flip(0), second])

    assert torch.equal(before[9:], after[9:])
    assert not torch.equal(before[:9], after[:9])


@FAMILIES
def test_parameter_count_equals_the_built_model(tmp_path: Path, name: str) -> None:
    ours = ours_of(theirs_of(name, "ForMaskedLM"), MaskedLM, tmp_path)

    assert ours.config.num_parameters == sum(weight.numel() for weight in ours.parameters())


@FAMILIES
def test_a_new_head_starts_on_a_pretrained_transformer(tmp_path: Path, name: str) -> None:
    theirs_of(name, "ForMaskedLM").save_pretrained(tmp_path)

    ours = load_pretrained(tmp_path, SequenceClassifier, labels=("no", "yes"), has_new_head=True)

    expected = load_pretrained(tmp_path, MaskedLM).transformer.state_dict()
    kept = ours.transformer.state_dict()
    assert all(torch.equal(weight, kept[key]) for key, weight in expected.items())
    assert ours.config.labels == ("no", "yes")
    assert float(ours.classifier.weight.detach().std()) == pytest.approx(0.02, rel=0.3)


def test_a_head_that_the_folder_lacks_is_named(tmp_path: Path) -> None:
    theirs_of("bert", "ForMaskedLM").save_pretrained(tmp_path)

    with pytest.raises(ValueError, match=r"lacks the tensor 'bert\.pooler\.dense\.weight'"):
        load_pretrained(tmp_path, SequenceClassifier)


def test_a_head_that_the_family_lacks_is_named(tmp_path: Path) -> None:
    theirs_of("bert", "ForMaskedLM").save_pretrained(tmp_path)

    with pytest.raises(ValueError, match="bert has no causal_lm head; expected one of masked_lm"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("field", ["is_decoder", "add_cross_attention"])
def test_decoder_variants_are_refused_by_name(tmp_path: Path, field: str) -> None:
    theirs_of("bert", "ForMaskedLM").config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace(f'"{field}": false', f'"{field}": true'))

    with pytest.raises(ValueError, match=f"{field} = True is not supported"):
        load_config(tmp_path)
