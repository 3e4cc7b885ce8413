"""Everything of one text: what is read, what is explained, and what is left out."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_tokenizer
from weldlm.heads import (
    CausalLM,
    MaskedLM,
    Model,
    Regressor,
    SentenceEmbedder,
    Seq2SeqLM,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm.inspect import (
    VIEWS,
    Inspection,
    InspectSettings,
    as_record,
    attention_maps,
    attribute_tokens,
    inspect_text,
    write_picture,
)
from weldlm.inspect.reading import baseline_of
from weldlm.packing import PackedBatch

BPE, WORDPIECE = tiny_tokenizer("bpe"), tiny_tokenizer()
LABELS = ("O", "good", "bad")


def drawn_model(head: type[Model], name: str = "bert-base") -> Any:
    tokenizer = WORDPIECE if name == "bert-base" else BPE
    config = tiny_config(name, vocab_size=tokenizer.vocab_size, labels=LABELS)
    end = BPE.special_tokens["<|endoftext|>"]
    if name != "bert-base":
        config = dataclasses.replace(config, eos_id=end, pad_id=end)
    if head is Seq2SeqLM:
        config = dataclasses.replace(config, num_encoder_layers=1, decoder_start_id=end)
    torch.manual_seed(0)
    model = head(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def look(model: Any, text: str, target_text: str | None = None, **settings: Any) -> Inspection:
    tokenizer = WORDPIECE if model.config.family == "bert" else BPE
    settings = {"num_steps": 4, "top_k": 3, **settings}
    return inspect_text(model, tokenizer, text, target_text, InspectSettings(**settings))


def test_a_decoder_is_asked_for_the_next_token() -> None:
    model = drawn_model(CausalLM, "gpt2-tiny")

    seen = look(model, "the film is great")

    sample = seen.reading.sample
    logits = model.logits(PackedBatch.from_sequences([sample.ids]))[-1].detach()
    baseline, _ = baseline_of(model.config, BPE, sample)
    (question, found), *others = seen.attributions
    expected = attribute_tokens(
        model,
        sample,
        row=-1,
        column=int(logits.argmax()),
        baseline=baseline,
        num_steps=found.num_steps,
    )
    assert not others
    assert not seen.notes
    assert (question.place, question.column) == (len(sample.ids), int(logits.argmax()))
    assert question.probability == pytest.approx(float(logits.softmax(dim=0).max()), abs=1e-6)
    torch.testing.assert_close(found.tokens, expected.tokens)
    assert seen.lens is not None
    assert seen.lens.targets.tolist() == [*sample.ids[1:].tolist(), int(logits.argmax())]
    torch.testing.assert_close(seen.attention["self"], attention_maps(model, sample)["self"])


def test_a_named_place_of_a_decoder_is_explained_by_the_token_that_stands_there() -> None:
    model = drawn_model(CausalLM, "gpt2-tiny")

    seen = look(model, "the film is great", what=("attribution",), positions=(2,))

    ((question, found),) = seen.attributions
    assert (question.row, question.column) == (1, int(seen.reading.sample.ids[2]))
    assert not found.tokens[2:].any()


def test_every_mask_of_an_encoder_is_explained() -> None:
    seen = look(drawn_model(MaskedLM), "the [MASK] is [MASK] .")

    places = [question.place for question, _ in seen.attributions]
    assert [seen.reading.tokens[place] for place in places if place] == ["[MASK]", "[MASK]"]
    assert seen.baseline == "[MASK]"
    assert seen.ablation_labels == "the model's own tokens at the masks"


def test_a_text_without_a_mask_is_noted_and_refused_where_it_was_asked_for() -> None:
    model = drawn_model(MaskedLM)

    seen = look(model, "the film is great")

    assert [note.split(":")[0] for note in seen.notes] == ["attribution", "ablation"]
    with pytest.raises(ValueError, match=r"text has no mask; expected .* such as \[MASK\]"):
        look(model, "the film is great", what=("attribution",))


def test_the_labels_of_a_classifier_are_explained_the_most_probable_first() -> None:
    seen = look(drawn_model(SequenceClassifier), "the film is great")

    chances = [question.probability for question, _ in seen.attributions]
    assert sorted(question.name for question, _ in seen.attributions) == sorted(LABELS)
    assert chances == sorted(chances, reverse=True)
    assert sum(chance or 0.0 for chance in chances) == pytest.approx(1.0, abs=1e-5)


def test_a_classifier_of_tokens_is_asked_where_it_is_surest_of_a_label() -> None:
    model = drawn_model(TokenClassifier)

    seen = look(model, "the film is great")

    batch = PackedBatch.from_sequences([seen.reading.sample.ids])
    chances = model.logits(batch).softmax(dim=-1).detach()
    ((question, _),) = seen.attributions
    assert question.place == int(chances[:, 1:].amax(dim=1).argmax())
    assert question.column == int(chances[question.row].argmax())


def test_a_target_that_is_not_given_is_what_the_model_writes() -> None:
    model = drawn_model(Seq2SeqLM, "t5-v1.1-small")

    seen = look(model, "the film is great", what=("lens", "ablation"))

    written = seen.reading.written_ids
    assert written is not None
    inputs = seen.reading.sample.inputs(model)
    assert model.logits(*inputs).argmax(dim=1).tolist() == written.tolist()
    assert seen.ablation_labels == "what the model itself writes"


def test_views_that_a_head_does_not_allow_are_noted() -> None:
    seen = look(drawn_model(SentenceEmbedder), "the film is great")
    number = look(drawn_model(Regressor), "the film is great")

    assert [note.split(":")[0] for note in seen.notes] == ["lens", "attribution", "ablation"]
    assert [note.split(":")[0] for note in number.notes] == ["ablation"]
    assert number.attributions[0][0].score == "logit"
    assert seen.attention
    assert seen.neighbors is not None


def test_a_record_has_what_was_seen() -> None:
    seen = look(drawn_model(CausalLM, "gpt2-tiny"), "the film is great")

    record = as_record(seen)

    assert set(VIEWS) - {"attribution"} < set(record)
    assert record["tokens"] == list(seen.reading.tokens)
    found = torch.tensor(record["attention"]["self"])
    torch.testing.assert_close(found, seen.attention["self"], rtol=1e-5, atol=1e-6)
    assert record["attributions"][0]["is_complete"] == seen.attributions[0][1].is_complete
    assert record["neighbors"][0]["token"] == seen.reading.tokens[0]


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    seen = look(drawn_model(CausalLM, "gpt2-tiny"), "the $film$ is great \u4e2d \x07")

    write_picture(seen, tmp_path / "seen.png")

    image = imread(tmp_path / "seen.png")
    colors = {tuple(color) for color in (image[::9, ::9, :3].reshape(-1, 3) * 255).astype(int)}
    assert image.shape[0] > image.shape[1] > 800
    assert len(colors) > 50  # shades of maps, not an empty sheet


@pytest.mark.parametrize(
    ("head", "name", "text", "settings", "message"),
    [
        (CausalLM, "gpt2-tiny", "", {}, "text is empty; expected at least one token"),
        (CausalLM, "gpt2-tiny", "the " * 99, {}, "expected at most the model's context_length 64"),
        (CausalLM, "gpt2-tiny", "the " * 9, {"max_length": 5}, "expected at most max_length 5"),
        (CausalLM, "gpt2-tiny", "the", {"positions": (9,)}, "positions has 9; expected 1 to 1"),
        (CausalLM, "gpt2-tiny", "the", {"what": ("ablation",)}, "text has 1 token; expected at"),
        (CausalLM, "gpt2-tiny", "the", {"target": "film the"}, r"is \d+ tokens .*; expected one"),
        (CausalLM, "gpt2-tiny", "the", {"what": ("lense",)}, "what has 'lense'; expected any of"),
        (CausalLM, "gpt2-tiny", "the", {"top_k": 0}, "top_k is 0; expected at least 1"),
        (SequenceClassifier, "bert-base", "the", {"target": "fine"}, "expected a label: O, good"),
        (SequenceClassifier, "bert-base", "the", {"positions": (1,)}, "as a whole; leave them"),
        (SentenceEmbedder, "bert-base", "the", {"what": ("lens",)}, "the head embedding; expect"),
    ],
)
def test_bad_input_is_named(
    head: type[Model], name: str, text: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        look(drawn_model(head, name), text, **settings)


def test_a_target_for_a_model_without_a_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="target_text was given to a model with the head causal"):
        look(drawn_model(CausalLM, "gpt2-tiny"), "the", "film")
