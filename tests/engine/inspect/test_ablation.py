"""Ablation against models whose output projection has lost the columns of a head."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.inspect.watched_models import IDS, TARGET_IDS
from tests.engine.tiny_models import tiny_config
from weldlm.heads import CausalLM, MaskedLM, Model, Regressor, Seq2SeqLM, SequenceClassifier
from weldlm.inspect import Head, Sample, ablate_heads, head_losses
from weldlm.inspect.sample import attention_layers

LABELS = torch.cat((IDS[1:], torch.tensor([-100])))
TARGET_LABELS = torch.cat((TARGET_IDS[1:], torch.tensor([2])))
CASES: dict[str, tuple[type[Model], str, Sample, Tensor]] = {
    "decoder": (CausalLM, "gpt2-tiny", Sample(IDS), LABELS),
    "capped-logits": (CausalLM, "gemma2-2b", Sample(IDS), LABELS),
    "encoder": (MaskedLM, "bert-base", Sample(IDS), torch.where(IDS % 3 == 0, IDS, -100)),
    "encoder-decoder": (Seq2SeqLM, "t5-small", Sample(IDS, TARGET_IDS), TARGET_LABELS),
    "classifier": (SequenceClassifier, "bert-base", Sample(IDS), torch.tensor([1])),
}


def drawn_model(head: type[Model], name: str) -> Any:
    torch.manual_seed(0)
    layers = {"num_encoder_layers": 3} if head is Seq2SeqLM else {}
    model = head(tiny_config(name, **layers))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


@torch.no_grad()
def mean_loss(model: Any, sample: Sample, labels: Tensor) -> float:
    loss_sum, count = model(*sample.inputs(model), labels)
    return float(loss_sum) / int(count)


def loss_without(model: Any, sample: Sample, labels: Tensor, head: Head) -> float:
    """Of a copy of the model in which nothing reads the head."""
    model = copy.deepcopy(model)
    width = model.config.head_dim
    out = attention_layers(model)[head.kind][head.layer].out
    with torch.no_grad():
        out.weight[:, head.head * width : (head.head + 1) * width] = 0.0
    return mean_loss(model, sample, labels)


@pytest.mark.parametrize("name", CASES)
def test_every_head_changes_the_loss_as_if_nothing_read_it(name: str) -> None:
    head, preset, sample, labels = CASES[name]
    model = drawn_model(head, preset)

    found = ablate_heads(model, sample, labels, max_batch_tokens=50)

    expected = {
        kind: torch.tensor(
            [
                [loss_without(model, sample, labels, Head(kind, layer, head)) for head in range(4)]
                for layer in range(len(layers))
            ]
        )
        for kind, layers in attention_layers(model).items()
    }
    assert found.loss == pytest.approx(mean_loss(model, sample, labels), abs=1e-5)
    assert list(found.changes) == list(expected)
    for kind, losses in expected.items():
        torch.testing.assert_close(found.changes[kind], losses - found.loss, rtol=1e-4, atol=1e-5)


def test_several_heads_go_at_once() -> None:
    model, sample = drawn_model(CausalLM, "gpt2-tiny"), Sample(IDS)
    heads = [Head("self", 0, number) for number in range(4)]

    (loss,) = head_losses(model, sample, LABELS, [heads]).tolist()

    without: Any = copy.deepcopy(model)
    torch.nn.init.zeros_(without.transformer.blocks[0].attention.out.weight)
    assert loss == pytest.approx(mean_loss(without, sample, LABELS), abs=1e-5)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Head("self", 0, 4), "no attention head 4 in layer 0 of self; it has 2 layers of self"),
        (Head("self", 2, 0), "no attention head 0 in layer 2 of self"),
        (Head("cross", 0, 0), "no attention head 0 in layer 0 of cross"),
    ],
)
def test_unknown_heads_are_named(head: Head, message: str) -> None:
    model = drawn_model(CausalLM, "gpt2-tiny")

    with pytest.raises(ValueError, match=message):
        head_losses(model, Sample(IDS), LABELS, [[head]])


def test_a_text_without_labels_is_refused() -> None:
    model = drawn_model(CausalLM, "gpt2-tiny")

    with pytest.raises(ValueError, match="there is no label"):
        ablate_heads(model, Sample(IDS), torch.full_like(IDS, -100))


def test_a_head_without_cross_entropy_is_refused() -> None:
    model = drawn_model(Regressor, "bert-base")

    with pytest.raises(ValueError, match="the head regression; expected one of language"):
        ablate_heads(model, Sample(IDS), torch.tensor([1]))
