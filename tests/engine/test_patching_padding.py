"""weldlm.patch and padding: what the layers compute of it, and when it stays."""

from typing import Any

import pytest
import torch

import weldlm
from tests.engine.patched_models import (
    FAMILIES,
    LENGTHS,
    batch_of,
    relative_differences,
    tiny_model,
)
from weldlm.patching.verification import loss_and_gradients

STACKED_INPUT = {
    "gpt2": "transformer.h.0", "llama": "model.layers.0", "mistral": "model.layers.0",
    "qwen2": "model.layers.0", "qwen3": "model.layers.0", "bert": "bert.encoder.layer.0",
    "roberta": "roberta.encoder.layer.0", "modernbert": "model.layers.0",
    "t5": "encoder.block.0", "t5-v1.1": "decoder.block.0", "bart": "model.decoder.layers.0",
}  # fmt: skip


def rows_of_first_layer(model: Any, family: str, batch: dict[str, Any]) -> int:
    """Tokens that the first layer computes."""
    shapes: list[torch.Size] = []
    layer = model.get_submodule(STACKED_INPUT[family])
    handle = layer.register_forward_hook(lambda _, args, __: shapes.append(args[0].shape))
    model(**batch)
    handle.remove()
    return shapes[0][0] * shapes[0][1]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_padding_reaches_the_layers(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    is_decoder = STACKED_INPUT[family].startswith(("decoder", "model.decoder"))

    report = weldlm.patch(model)

    assert report.padding == "packed"
    expected = sum(LENGTHS) + 2 * len(LENGTHS) * is_decoder
    assert rows_of_first_layer(model, family, batch) == expected
    assert rows_of_first_layer(model, family, batch) < batch["labels"].numel()


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_labels_on_padding_keep_the_call_padded(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    batch["labels"] = batch["input_ids"].clone()
    before = loss_and_gradients(model, batch)

    weldlm.patch(model)
    after = loss_and_gradients(model, batch)

    assert rows_of_first_layer(model, family, batch) == batch["input_ids"].numel()
    assert max(relative_differences(before, after).values()) < 1e-5


def test_mask_with_holes_keeps_the_call_padded() -> None:
    model = tiny_model("t5")
    batch = batch_of(model)
    batch["attention_mask"][1, 4] = 0
    before = loss_and_gradients(model, batch)

    weldlm.patch(model)

    assert rows_of_first_layer(model, "t5", batch) == batch["input_ids"].numel()
    assert max(relative_differences(before, loss_and_gradients(model, batch)).values()) < 1e-5


def test_row_without_a_token_keeps_the_call_padded() -> None:
    model = tiny_model("t5")
    batch = batch_of(model)
    batch["attention_mask"][2] = 0
    before = loss_and_gradients(model, batch)

    weldlm.patch(model)

    assert rows_of_first_layer(model, "t5", batch) == batch["input_ids"].numel()
    assert max(relative_differences(before, loss_and_gradients(model, batch)).values()) < 1e-5


def test_states_at_padding_are_zeros_and_others_as_before() -> None:
    model = tiny_model("bert").bert
    batch = {name: batch_of(model)[name] for name in ("input_ids", "attention_mask")}
    is_real = batch["attention_mask"].bool()
    before = model(**batch, output_hidden_states=True)

    weldlm.patch(model)
    after = model(**batch, output_hidden_states=True)

    assert not after.last_hidden_state[~is_real].any()
    for ours, theirs in zip(after.hidden_states, before.hidden_states, strict=True):
        torch.testing.assert_close(ours[is_real], theirs[is_real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "name"), [
    ("gpt2", "attn_pdrop"), ("mistral", "attention_dropout"),
    ("bert", "attention_probs_dropout_prob"), ("t5", "dropout_rate"), ("bart", "attention_dropout"),
])  # fmt: skip
def test_attention_dropout_of_next_to_nothing_changes_nothing(family: str, name: str) -> None:
    # the path that drops, with a probability at which nothing is dropped
    model = tiny_model(family, "sdpa", **{name: 1e-9}).train()
    plain = tiny_model(family, "sdpa", **{name: 0.0})
    batch = batch_of(model)

    weldlm.patch(model)

    assert model(**batch).loss.item() == pytest.approx(plain(**batch).loss.item(), rel=1e-5)


def test_attention_dropout_drops() -> None:
    model = tiny_model("bert", attention_probs_dropout_prob=0.5).train()
    batch = batch_of(model)
    weldlm.patch(model)

    torch.manual_seed(0)
    losses = {model(**batch).loss.item() for _ in range(4)}

    assert len(losses) == 4


def test_model_that_reads_padding_stays_padded() -> None:
    import transformers

    torch.manual_seed(0)
    model = transformers.BertForQuestionAnswering(tiny_model("bert").config).eval()
    batch = batch_of(model) | {"start_positions": torch.tensor([0, 1, 0, 2])}
    batch["end_positions"] = batch["start_positions"]
    del batch["labels"]
    before = loss_and_gradients(model, batch)

    report = weldlm.patch(model)
    after = loss_and_gradients(model, batch)

    assert report.padding == "padded: the outputs of BertForQuestionAnswering may depend on padding"
    # a bias before a softmax has no gradient but for rounding: nothing to be relative to
    assert max(float(found.pop("qa_outputs.bias").norm()) for found in (before, after)) < 1e-6
    assert max(relative_differences(before, after).values()) < 1e-5


def test_padding_is_kept_on_request() -> None:
    model = tiny_model("bert")
    batch = batch_of(model)
    before = loss_and_gradients(model, batch)

    report = weldlm.patch(model, packed=False)

    assert rows_of_first_layer(model, "bert", batch) == batch["input_ids"].numel()
    assert report.padding == "padded: packed=False was given"
    assert max(relative_differences(before, loss_and_gradients(model, batch)).values()) < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_decoder_that_its_configuration_makes_bidirectional_stays_padded(family: str) -> None:
    model = tiny_model(family, is_causal=False)
    batch = batch_of(model)
    before = loss_and_gradients(model, batch)

    report = weldlm.patch(model)

    assert "is_causal is false in its configuration" in report.padding
    assert max(relative_differences(before, loss_and_gradients(model, batch)).values()) < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_batch_without_a_label_gives_nan_and_gradients_of_zero(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    before = loss_and_gradients(model, batch)

    weldlm.patch(model)
    after = loss_and_gradients(model, batch)

    assert before.pop("loss").isnan()
    assert after.pop("loss").isnan()
    torch.testing.assert_close(after, before, rtol=0, atol=0)
