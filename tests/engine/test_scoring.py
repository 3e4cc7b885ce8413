"""Log-likelihoods of texts by each family, against forwards of single sequences in fp64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_tokenizer
from weldlm.heads import CausalLM, MaskedLM, Seq2SeqLM
from weldlm.packing import PackedBatch
from weldlm.scoring import TextScorer
from weldlm.tokenizer import Tokenizer, TokenizerConfig

TEXTS = ["the film is fine", "we stay in Rome", "great"]
WORDPIECE = tiny_tokenizer()


def letters(*specials: str) -> Tokenizer:
    """A tokenizer of bytes, without a template."""
    learned = Tokenizer.train(
        TEXTS * 3, 290, special_tokens=["<|endoftext|>", *specials], allow_smaller=True
    )
    return Tokenizer(learned.parts, TokenizerConfig(roles={"eos_token": "<|endoftext|>"}))


def scorer(kind: str, **options: Any) -> TextScorer:
    head, preset = {
        "causal": (CausalLM, "gpt2-tiny"),
        "masked": (MaskedLM, "bert-base"),
        "t5": (Seq2SeqLM, "t5-small"),
        "bart": (Seq2SeqLM, "bart-base"),
    }[kind]
    tokenizer = {
        "causal": letters,
        "masked": lambda: WORDPIECE,
        "t5": lambda: letters("<extra_id_0>"),
        "bart": lambda: WORDPIECE,
    }[kind]()
    changes = {"vocab_size": tokenizer.vocab_size, "context_length": 64}
    if kind in ("t5", "bart"):
        changes |= {"num_encoder_layers": 1, "decoder_start_id": 0}
    torch.manual_seed(0)
    model: Any = head(tiny_config(preset, **changes)).eval()
    return TextScorer(model=model, tokenizer=tokenizer, **options)


def logprobs(model: Any, *sequences: list[int]) -> Tensor:
    """[tokens of the last sequence, vocab_size] in fp64."""
    with torch.no_grad():
        logits = model.logits(*(PackedBatch.from_sequences([ids]) for ids in sequences))
    return logits.double().log_softmax(dim=-1)  # type: ignore[no-any-return]


def test_decoder_predicts_each_token_from_those_before() -> None:
    ours = scorer("causal")
    ids = [ours.encode(text) for text in TEXTS]

    found = ours.texts(TEXTS)

    for part, row in zip(found, ids, strict=True):
        scores = logprobs(ours.model, [ours.start_id(), *row[:-1]])
        expected = scores[range(len(row)), row]
        torch.testing.assert_close(part.double(), expected, atol=1e-5, rtol=0)


def test_continuation_is_what_the_joined_text_has_more() -> None:
    ours = scorer("causal", max_batch_tokens=8)  # a row a forward

    found = ours.continuations([("the film ", "is fine"), ("", "great")])

    whole = ours.encode("the film is fine")
    num_read = len(ours.encode("the film"))
    scores = logprobs(ours.model, whole[:-1])
    places = range(num_read - 1, len(whole) - 1)
    expected = scores[places, whole[num_read:]].sum()
    assert found[0].logprob == pytest.approx(float(expected), abs=1e-5)
    assert found[0].num_tokens == len(whole) - num_read
    assert found[1].logprob == pytest.approx(float(ours.texts(["great"])[0].sum()), abs=1e-5)


def test_best_continuation_is_the_one_that_greedy_decoding_writes() -> None:
    ours = scorer("causal")
    start = ours.encode("the film")
    best = int(logprobs(ours.model, start)[-1].argmax())
    text = ours.tokenizer.decode([best])
    others = [word for word in ("q", "z") if word != text]

    found = ours.continuations([("the film", text), *(("the film", word) for word in others)])

    is_one_token = ours.encode(f"the film{text}") == [*start, best]
    assert found[0].is_best == is_one_token
    assert not any(one.is_best for one in found[1:])


def test_encoder_hides_each_token_alone() -> None:
    ours = scorer("masked")
    mask_id = WORDPIECE.role_id("mask_token")
    assert mask_id is not None

    found = ours.texts(TEXTS)

    for part, text in zip(found, TEXTS, strict=True):
        ids = WORDPIECE.encode(text)  # between [CLS] and [SEP]
        expected = []
        for place in range(1, len(ids) - 1):
            hidden = [*ids[:place], mask_id, *ids[place + 1 :]]
            expected.append(float(logprobs(ours.model, hidden)[place, ids[place]]))
        assert part.tolist() == pytest.approx(expected, abs=1e-5)


def test_t5_reads_a_sentinel_and_writes_what_it_hides() -> None:
    ours = scorer("t5")
    sentinel = ours.tokenizer.special_tokens["<extra_id_0>"]
    ids = ours.encode(TEXTS[0])

    (found,) = ours.hidden_tokens([(ids, [0, 2])])

    for score, place in zip(found, (0, 2), strict=True):
        source = [*ids[:place], sentinel, *ids[place + 1 :]]
        scores = logprobs(ours.model, source, [0, sentinel])
        assert float(score) == pytest.approx(float(scores[1, ids[place]]), abs=1e-5)


def test_bart_writes_the_text_again() -> None:
    ours = scorer("bart")
    mask_id = WORDPIECE.role_id("mask_token")
    assert mask_id is not None
    ids = WORDPIECE.encode(TEXTS[0])

    (found,) = ours.hidden_tokens([(ids[1:-1], [1])])

    source = [*ids[:2], mask_id, *ids[3:]]
    scores = logprobs(ours.model, source, [0, *ids[:-2]])
    assert float(found[0]) == pytest.approx(float(scores[2, ids[2]]), abs=1e-5)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_decoder_continues_its_source(kind: str) -> None:
    ours = scorer(kind)

    (found,) = ours.continuations([("the film", "is fine")])

    target = ours.encode("is fine")
    source = ours.tokenizer.encode("the film", add_special_tokens=True)
    scores = logprobs(ours.model, source, [0, *target[:-1]])
    expected = scores[range(len(target)), target].sum()
    assert found.logprob == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: scorer("causal").texts([""]), "text 0 is empty"),
        (lambda: scorer("masked").texts([""]), "a text is empty"),
        (
            lambda: scorer("causal").texts(["great " * 80]),
            "text 0, from 0, has .* expected at most the model's",
        ),
        (lambda: scorer("masked").continuations([("a", "b")]), "the model is an encoder"),
        (lambda: scorer("causal").hidden_tokens([([1], [0])]), "the model is a decoder"),
        (lambda: scorer("causal", max_batch_tokens=0), "max_batch_tokens is 0"),
    ],
)
def test_what_cannot_be_scored_is_refused(run: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run()
