"""What each kind of model is asked of text, and the tokenizer that goes with it."""

import pytest

from weldlm.config import preset
from weldlm.objectives import CausalLMObjective, MaskedLMObjective, SpanCorruptionObjective
from weldlm.packing import PackedBatch
from weldlm.pretraining import (
    PretrainSettings,
    adapt_config,
    build_objective,
    tokenizer_options,
)
from weldlm.tokenizer import Tokenizer

TEXTS = ["the cat sat on the mat and the dog sat on the cat"] * 20 + ["a bird sang to the dog"] * 9


def learn(name: str) -> Tokenizer:
    options = tokenizer_options(preset(name))
    return Tokenizer.train(TEXTS, 400, allow_smaller=True, **options)


def test_encoders_are_asked_for_hidden_tokens_between_their_special_ones() -> None:
    tokenizer = learn("bert-tiny")
    config = adapt_config(preset("bert-tiny"), tokenizer)
    objective = build_objective(
        config, tokenizer, PretrainSettings(hidden_share=0.5, whole_words=True), seed=3
    )
    assert isinstance(objective, MaskedLMObjective)

    ids = tokenizer.encode("the cat sat", add_special_tokens=False)
    batch, labels = objective(PackedBatch.from_sequences([ids]), [0])

    special = tokenizer.special_tokens
    assert config.vocab_size == tokenizer.vocab_size
    assert config.pad_id == special["[PAD]"]
    assert objective.mask_id == special["[MASK]"]
    assert [int(batch.ids[0]), int(batch.ids[-1])] == [special["[CLS]"], special["[SEP]"]]
    assert [int(labels[0]), int(labels[-1])] == [-100, -100]
    assert batch.num_tokens == len(ids) + objective.num_added


def test_encoder_decoders_are_asked_for_hidden_spans() -> None:
    tokenizer = learn("t5-tiny")
    config = adapt_config(preset("t5-tiny"), tokenizer)
    objective = build_objective(config, tokenizer, PretrainSettings(mean_span=2.0), seed=0)
    assert isinstance(objective, SpanCorruptionObjective)

    assert objective.first_sentinel == tokenizer.token_to_id("<extra_id_0>")
    assert tokenizer.token_to_id("<extra_id_99>") == objective.first_sentinel - 99
    assert (objective.num_sentinels, objective.mean_span) == (100, 2.0)
    assert config.decoder_start_id == objective.start_id == tokenizer.token_to_id("<pad>")
    assert config.eos_id == objective.eos_id == tokenizer.token_to_id("</s>")
    objective.check(config)


def test_decoders_are_asked_for_the_next_token() -> None:
    tokenizer = learn("gpt2-tiny")
    config = adapt_config(preset("gpt2-tiny"), tokenizer)

    assert build_objective(config, tokenizer, PretrainSettings(), seed=0) == CausalLMObjective()
    assert config.bos_id == config.eos_id == tokenizer.token_to_id("<|endoftext|>")


@pytest.mark.parametrize(
    ("name", "missing"),
    [("bert-tiny", r"cls_token, such as \[CLS\]"), ("t5-tiny", "<extra_id_0>")],
)
def test_tokenizer_without_what_it_takes_is_refused(name: str, missing: str) -> None:
    with pytest.raises(ValueError, match=f"the tokenizer has no {missing}"):
        build_objective(preset(name), learn("gpt2-tiny"), PretrainSettings(), seed=0)
