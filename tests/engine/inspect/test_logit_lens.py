"""The logit lens against the final norm and head of transformers on its hidden states."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.inspect.watched_models import IDS, TARGET_IDS, both_models, their_call
from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.heads import SentenceEmbedder, SequenceClassifier
from weldlm.inspect import Sample, hidden_states, layer_logits, logit_lens
from weldlm.packing import PackedBatch

pytest.importorskip("transformers")

ALL = torch.full((len(IDS),), -100)


def read_by_theirs(family: str, theirs: Any, hidden: Tensor) -> Tensor:
    """What their head says of the residual stream after a layer that is not the last."""
    match family:
        case "gpt2":
            return theirs.lm_head(theirs.transformer.ln_f(hidden))
        case "llama":
            return theirs.lm_head(theirs.model.norm(hidden))
        case "bert":
            return theirs.cls(hidden)
        case "t5":
            return theirs.lm_head(theirs.decoder.final_layer_norm(hidden) * 32**-0.5)
        case _:
            return theirs.lm_head(hidden) + theirs.final_logits_bias


@torch.no_grad()
def their_layers(family: str, theirs: Any) -> Tensor:
    output = their_call(theirs, output_hidden_states=True)
    states = output.get("hidden_states", output.get("decoder_hidden_states"))
    layers = [read_by_theirs(family, theirs, hidden[0]) for hidden in states[:-1]]
    return torch.stack([*layers, output.logits[0]])


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5", "bart"])
def test_every_layer_reads_as_in_transformers(family: str, tmp_path: Path) -> None:
    theirs, ours, sample = both_models(family, tmp_path)

    layers = torch.stack(list(layer_logits(ours, sample)))

    torch.testing.assert_close(layers, their_layers(family, theirs), rtol=1e-4, atol=1e-4)


def test_ranks_entropies_and_probabilities_are_those_of_the_logits() -> None:
    model, sample = tiny_model("llama-160m"), Sample(IDS)
    targets = torch.cat((IDS[1:], torch.tensor([-100])))

    lens = logit_lens(model, sample, targets=targets, top_k=3)

    logits = torch.stack(list(layer_logits(model, sample))).double()
    logits_of_last = logits[-1, -1]
    expected_targets = torch.cat((IDS[1:], logits_of_last.argmax().view(1)))
    order = logits.argsort(dim=-1, descending=True)
    places = (order == expected_targets.view(1, -1, 1)).int().argmax(dim=-1)
    probabilities = logits.softmax(dim=-1)
    entropies = torch.distributions.Categorical(probabilities).entropy()
    own = probabilities.gather(2, expected_targets.view(1, -1, 1).expand(3, -1, 1)).squeeze(2)
    assert torch.equal(lens.targets, expected_targets)
    assert torch.equal(lens.target_ranks, places + 1)
    assert torch.equal(lens.top_ids, order[:, :, :3])
    torch.testing.assert_close(lens.entropies.double(), entropies, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        lens.top_probabilities.double(),
        probabilities.sort(dim=-1, descending=True)[0][:, :, :3],
        rtol=1e-5,
        atol=1e-6,
    )
    torch.testing.assert_close(
        lens.target_log_probabilities.double(), own.log(), rtol=1e-5, atol=1e-5
    )


def test_the_lens_of_a_classifier_ends_with_its_labels() -> None:
    torch.manual_seed(0)
    labels = ("bad", "good", "neither")
    model = SequenceClassifier(tiny_config("bert-base", labels=labels)).eval()

    lens = logit_lens(model, Sample(IDS), top_k=9)

    expected = model.logits(PackedBatch.from_sequences([IDS])).softmax(dim=-1).detach()
    assert lens.top_ids.shape == (3, 1, 3)
    torch.testing.assert_close(lens.top_probabilities[-1], expected.sort(descending=True)[0])
    assert torch.equal(lens.targets, expected.argmax(dim=1))


def test_the_last_hidden_state_is_what_the_final_norm_takes() -> None:
    model = tiny_model()

    hidden = hidden_states(model, Sample(IDS))

    batch = PackedBatch.from_sequences([IDS])
    norm = model.transformer.norm
    assert norm is not None
    torch.testing.assert_close(norm(hidden[-1]), model.transformer(batch))
    torch.testing.assert_close(hidden[0], model.transformer.embedding(batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0; expected at least 1"),
        ({"targets": torch.tensor([3])}, r"targets has shape \(1,\); expected \(11,\)"),
        ({"targets": ALL + 197}, "targets has 97; expected 0 to 96, or -100"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        logit_lens(tiny_model(), Sample(IDS), **options)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (lambda: Sample(IDS[:0]), r"ids has shape \(0,\); expected the ids of one text"),
        (lambda: Sample(IDS, TARGET_IDS), "the sample has target_ids; expected none for a model"),
    ],
)
def test_bad_samples_are_named(sample: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        logit_lens(tiny_model(), sample())


def test_a_head_without_scores_is_refused() -> None:
    model = SentenceEmbedder(tiny_config("bert-base"))

    with pytest.raises(ValueError, match="the head embedding; expected one that scores"):
        logit_lens(model, Sample(IDS))
