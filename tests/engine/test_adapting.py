"""Frozen parts, new heads and vocabularies on pretrained bodies."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.their_models import SIZES, their_model
from tests.engine.tiny_models import tiny_config, tiny_model
from tests.tolerance import assert_within_tolerance
from weldlm.adapters import (
    LoraSettings,
    add_lora,
    freeze,
    load_trainable_state,
    num_trainable_parameters,
    quantize_base,
    resize_vocabulary,
    trainable_state,
    unfreeze,
    with_head,
)
from weldlm.heads import MaskedLM, Model, Seq2SeqLM, SequenceClassifier
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained, save_pretrained


def frozen(model: Model) -> set[str]:
    return {name for name, weight in model.named_parameters() if not weight.requires_grad}


def names(model: Model, *beginnings: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(beginnings)}


def tiny_t5() -> Seq2SeqLM:
    torch.manual_seed(0)
    return Seq2SeqLM(tiny_config("t5-small", num_encoder_layers=3, tie_embeddings=False))


def tiny_bert(head: type[Model] = MaskedLM) -> Any:
    torch.manual_seed(0)
    return head(tiny_config("bert-base"))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("embedding",), ("transformer.embedding.",)),
        (("layers:0",), ("transformer.blocks.0.",)),
        (("layers:0-1", "embedding"), ("transformer.blocks.", "transformer.embedding.")),
        (("head",), ("head.",)),
        (("body",), ("transformer.",)),
        (("*.norm.*", "*blocks.1.mlp.*"), ("transformer.norm.", "transformer.blocks.1.mlp.")),
    ],
)
def test_freeze_takes_these_weights_out_of_training(
    parts: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    model = tiny_model("llama-tiny", tie_embeddings=False)

    count = freeze(model, *parts)

    assert frozen(model) == names(model, *expected)
    assert count == sum(model.get_parameter(name).numel() for name in frozen(model))
    assert unfreeze(model, *parts) == count
    assert not frozen(model)


def test_layers_of_both_stacks_or_of_one() -> None:
    both, one = tiny_t5(), tiny_t5()

    freeze(both, "layers:1-2")
    freeze(one, "encoder.layers:1-2")

    encoder = ("encoder.blocks.1.", "encoder.blocks.2.")
    assert frozen(one) == names(one, *encoder)
    assert frozen(both) == names(both, *encoder, "decoder.blocks.1.")


def test_adapters_are_frozen_by_their_name_alone() -> None:
    model = tiny_model()
    add_lora(model, LoraSettings(rank=2), "a")
    trained = set(trainable_state(model))

    unfreeze(model, "layers:1")
    freeze(model, "adapter:a")

    assert set(trainable_state(model)).isdisjoint(trained)
    assert set(trainable_state(model)) == names(model, "transformer.blocks.1.") - trained
    assert num_trainable_parameters(model) == sum(
        weight.numel() for weight in trainable_state(model).values()
    )


def test_parts_that_name_nothing_are_refused() -> None:
    model = tiny_model()

    with pytest.raises(ValueError, match=r"'layers:7' names no weight of this gpt2 model with 2"):
        freeze(model, "layers:7")
    with pytest.raises(ValueError, match="'adapter:a' names no weight"):
        freeze(model, "adapter:a")
    quantize_base(model, bits=8)
    with pytest.raises(ValueError, match="belongs to a quantized layer and has no gradient"):
        unfreeze(model, "layers:0")


def test_state_of_other_weights_is_refused() -> None:
    model = tiny_model()
    freeze(model, "body")
    unfreeze(model, "layers:0")
    state = trainable_state(model)

    unfreeze(model, "layers:1")
    with pytest.raises(ValueError, match="is trained in the model alone"):
        load_trainable_state(model, state)
    freeze(model, "layers:1")
    state["transformer.blocks.0.mlp.up.bias"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"is \(48,\) in the model and \(3,\) in the state"):
        load_trainable_state(model, state)


def batch() -> PackedBatch:
    return PackedBatch.from_sequences([[5, 6, 7], [8, 9]])


def test_new_head_shares_the_body_of_a_model() -> None:
    source = tiny_bert()

    model, report = with_head(source, "sequence_classification", labels=["bad", "good", "odd"])

    assert isinstance(model, SequenceClassifier)
    assert model.config.labels == ("bad", "good", "odd")
    assert torch.equal(model.transformer(batch()), source.transformer(batch()))
    assert model.transformer.embedding.tokens.weight is source.tokens.weight
    assert report.drawn == (
        *("pooler.dense.weight", "pooler.dense.bias"),
        *("classifier.weight", "classifier.bias"),
    )
    assert report.kept == ()
    assert set(report.dropped) == names(source, "transform.", "head")
    assert float(model.classifier.weight.detach().std()) == pytest.approx(0.02, rel=0.3)
    assert model.logits(batch()).shape == (2, 3)


def test_new_head_on_a_folder_keeps_the_pooler_and_draws_the_classifier(tmp_path: Path) -> None:
    source = tiny_bert(SequenceClassifier)
    save_pretrained(source, tmp_path / "source")

    model, report = with_head(tmp_path / "source", "sequence_classification", num_labels=5)
    save_pretrained(model, tmp_path / "new")

    assert report.drawn == ("classifier.weight", "classifier.bias")
    assert report.kept == ("pooler.dense.weight", "pooler.dense.bias")
    assert report.dropped == ("classifier.bias", "classifier.weight")
    assert isinstance(model, SequenceClassifier)
    pooler = "pooler.dense.weight"
    assert torch.equal(model.get_parameter(pooler), source.get_parameter(pooler))
    again = load_pretrained(tmp_path / "new", SequenceClassifier)
    assert torch.equal(again.logits(batch()), model.logits(batch()))
    assert again.config.labels == tuple(f"LABEL_{place}" for place in range(5))


def test_new_head_of_a_folder_says_what_was_dropped(tmp_path: Path) -> None:
    save_pretrained(tiny_bert(), tmp_path)

    _, report = with_head(tmp_path, "token_classification", num_labels=4)

    assert report.drawn == ("classifier.weight", "classifier.bias")
    assert report.dropped == (
        "cls.predictions.bias",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.dense.weight",
    )


def test_head_is_drawn_in_the_order_of_its_weights(tmp_path: Path) -> None:
    save_pretrained(tiny_bert(), tmp_path)
    torch.manual_seed(3)
    pooler, classifier = torch.randn(32, 32) * 0.02, torch.randn(2, 32) * 0.02

    torch.manual_seed(3)
    model = load_pretrained(tmp_path, SequenceClassifier, has_new_head=True)

    torch.testing.assert_close(model.get_parameter("pooler.dense.weight").data, pooler)
    torch.testing.assert_close(model.classifier.weight.data, classifier)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sequence_classifier", {}, "'sequence_classifier' does not exist; expected causal_lm"),
        ("seq2seq_lm", {}, "bert has no seq2seq_lm head; expected one of masked_lm"),
        ("sequence_classification", {"num_labels": 0}, "num_labels is 0; expected at least 1"),
        ("sequence_classification", {"labels": ["a"], "num_labels": 2}, "num_labels 2; expected"),
    ],
)
def test_heads_that_cannot_be_are_refused(kind: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_head(tiny_bert(), kind, **options)


def test_new_head_on_an_adapted_body_is_refused() -> None:
    model = tiny_bert()
    add_lora(model, LoraSettings())

    with pytest.raises(ValueError, match="of the body has adapters or a quantized weight"):
        with_head(model, "token_classification")


TIED = ("bert", "BertForMaskedLM", MaskedLM, {})
UNTIED = ("t5", "T5ForConditionalGeneration", Seq2SeqLM, {"tie_word_embeddings": False})
T5 = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}


def their_logits(model: Any, ids: Tensor) -> Tensor:
    decoder = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **decoder).logits[0]  # type: ignore[no-any-return]


def our_logits(model: Any, ids: Tensor) -> Tensor:
    one = PackedBatch.from_sequences([ids[0]])
    both = (one, one) if isinstance(model, Seq2SeqLM) else (one,)
    with torch.no_grad():
        return model.logits(*both)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("family", "architecture", "head", "options"), [TIED, UNTIED])
@pytest.mark.parametrize("vocab_size", [103, 80])
def test_resized_vocabulary_loads_in_transformers(
    family: str,
    architecture: str,
    head: type[Model],
    options: dict[str, Any],
    vocab_size: int,
    tmp_path: Path,
) -> None:
    transformers = pytest.importorskip("transformers")
    config = (
        transformers.BertConfig(**SIZES, **options)
        if family == "bert"
        else transformers.T5Config(**T5, **options, decoder_start_token_id=0)
    )
    their_model(config, architecture).save_pretrained(tmp_path / "theirs")
    model = load_pretrained(tmp_path / "theirs", head)
    ids = torch.tensor([[5, 6, 7, 79]])
    before = our_logits(model, ids)

    resize_vocabulary(model, vocab_size)
    save_pretrained(model, tmp_path / "resized")
    again = getattr(transformers, architecture).from_pretrained(tmp_path / "resized").eval()

    after = our_logits(model, ids)
    kept = min(vocab_size, 97)
    assert after.shape == (4, vocab_size)
    torch.testing.assert_close(after[:, :kept], before[:, :kept], rtol=0, atol=1e-5)
    exact = their_logits(copy.deepcopy(again).double(), ids)
    assert_within_tolerance("logits", after, their_logits(again, ids), exact)


def test_new_rows_are_near_the_mean() -> None:
    model = tiny_model("llama-tiny", tie_embeddings=False)
    assert model.head is not None
    old, head = model.tokens.weight.detach().clone(), model.head.weight.detach().clone()

    resize_vocabulary(model, 2_097)

    for weight, rows in ((model.tokens.weight, old), (model.head.weight, head)):
        new, std = weight.detach()[97:], rows.std(dim=0, correction=0)
        assert torch.equal(weight[:97], rows)
        # 2,000 draws of 0.01 std; their mean is within 5 of its deviations
        assert ((new.mean(dim=0) - rows.mean(dim=0)).abs() < 5 * 0.01 * std / 2_000**0.5).all()
        assert torch.allclose(new.std(dim=0), 0.01 * std, rtol=0.1)


def test_vocabulary_without_its_special_ids_is_refused() -> None:
    model = tiny_model(eos_id=90, pad_id=91)

    with pytest.raises(ValueError, match="pad_id is 91; expected an id below vocab_size 91"):
        resize_vocabulary(model, 91)
    with pytest.raises(ValueError, match="vocab_size is 0; expected at least 1"):
        resize_vocabulary(model, 0)
    assert model.config.vocab_size == model.tokens.num_embeddings == 97
