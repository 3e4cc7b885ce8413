"""weldlm.patch and classifiers that read the states of padding."""

from typing import Any

import pytest
import torch
from torch import Tensor

import weldlm
from tests.engine.patched_models import FAMILIES, batch_of

transformers = pytest.importorskip("transformers")

ENCODERS = ("bert", "roberta", "modernbert")
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
SEQ2SEQ = ("t5", "bart")
EOS = 2


def classifier(family: str, **changes: Any) -> Any:
    config, architecture, sizes = FAMILIES[family]
    name = architecture.replace("LMHeadModel", "ForCausalLM").split("For")[0]
    fields = {"pad_token_id": 1, "eos_token_id": EOS, "num_labels": 3} | sizes | changes
    torch.manual_seed(0)
    model_class = getattr(transformers, f"{name}ForSequenceClassification")
    return model_class(getattr(transformers, config)(**fields)).eval()


def rows_of(model: Any, side: str, padding_id: int = 1) -> dict[str, Tensor]:
    """Ids with one `EOS` at the end of each row, and the mask."""
    batch = batch_of(model, side)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    last = (mask * torch.arange(mask.shape[1])).argmax(dim=1, keepdim=True)
    ids = ids.scatter(1, last, EOS).masked_fill(mask == 0, padding_id)
    return {"input_ids": ids, "attention_mask": mask}


def is_packed(model: Any, batch: dict[str, Any]) -> bool:
    shapes: list[torch.Size] = []
    attention = next(x for x in model.modules() if type(x).__name__.endswith("Attention"))
    handle = attention.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append((args or tuple(kwargs.values()))[0].shape),
        with_kwargs=True,
    )
    model(**batch, labels=torch.tensor([0, 1, 2, 0]))
    handle.remove()
    return shapes[0][:2].numel() == int(batch["attention_mask"].sum())


def assert_logits_are_kept(model: Any, batch: dict[str, Any]) -> None:
    with torch.no_grad():
        before = model(**batch).logits
        weldlm.patch(model)
        after = model(**batch).logits

    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def uncached(family: str) -> dict[str, bool]:
    return {} if family in ENCODERS else {"use_cache": False}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS, *SEQ2SEQ])
def test_logits_are_those_of_the_model(family: str, side: str) -> None:
    model = classifier(family)

    assert_logits_are_kept(model, rows_of(model, side) | uncached(family))


@pytest.mark.parametrize("family", DECODERS)
def test_decoder_padded_with_another_id_keeps_its_logits(family: str) -> None:
    model = classifier(family)

    assert_logits_are_kept(model, rows_of(model, "right", padding_id=7) | uncached(family))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_embeddings_with_padding_keep_their_logits(family: str) -> None:
    model = classifier(family)
    batch: dict[str, Any] = rows_of(model, "right") | uncached(family)
    batch["inputs_embeds"] = model.get_input_embeddings()(batch.pop("input_ids")).detach()

    assert_logits_are_kept(model, batch)


def test_modernbert_with_mean_pooling_keeps_its_logits() -> None:
    model = classifier("modernbert", classifier_pooling="mean")

    assert_logits_are_kept(model, rows_of(model, "left"))


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_decoder_mask_over_an_end_keeps_the_logits(family: str) -> None:
    model = classifier(family)
    batch: dict[str, Any] = rows_of(model, "right") | uncached(family)
    batch["decoder_attention_mask"] = batch["attention_mask"].clone()
    batch["decoder_attention_mask"][1, -1] = 0

    assert_logits_are_kept(model, batch)


def test_pooler_of_a_bare_encoder_is_kept() -> None:
    model = transformers.BertModel(classifier("bert").config).eval()
    batch = rows_of(model, "left")

    with torch.no_grad():
        before = model(**batch).pooler_output
        weldlm.patch(model)
        after = model(**batch).pooler_output

    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "side", "padding_id", "expected"), [
    ("bert", "right", 1, True), ("bert", "left", 1, False),
    ("roberta", "right", 1, True), ("roberta", "left", 1, False),
    ("modernbert", "right", 1, True), ("modernbert", "left", 1, False),
    ("gpt2", "right", 1, True), ("gpt2", "left", 1, True), ("gpt2", "right", 7, False),
    ("llama", "right", 1, True), ("llama", "left", 1, True), ("llama", "right", 7, False),
    ("t5", "right", 1, True), ("t5", "left", 1, True),
])  # fmt: skip
def test_only_calls_that_read_padding_stay_padded(
    family: str, side: str, padding_id: int, expected: bool
) -> None:
    model = classifier(family)
    batch = rows_of(model, side, padding_id) | uncached(family)

    report = weldlm.patch(model)

    assert report.padding == "packed"
    assert is_packed(model, batch) is expected
