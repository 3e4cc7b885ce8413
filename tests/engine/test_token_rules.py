"""TokenRules: scores equal those of transformers' processors, or the published definitions."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from weldlm.sampling_settings import SamplingSettings
from weldlm.token_rules import TokenRules
from weldlm.tokenizer import Tokenizer

VOCAB_SIZE, STOP_ID = 30, 2
GENERATOR = torch.Generator().manual_seed(6)
IDS = torch.randint(VOCAB_SIZE, (40,), generator=GENERATOR).tolist()
SCORES = torch.randn(VOCAB_SIZE, generator=GENERATOR) * 3


def ruled(
    ids: list[int], num_first: int = 0, tokenizer: Tokenizer | None = None, **settings: object
) -> Tensor:
    rules = TokenRules(
        SamplingSettings(**settings),  # type: ignore[arg-type]
        stop_ids={STOP_ID},
        vocab_size=VOCAB_SIZE if tokenizer is None else tokenizer.vocab_size,
        tokenizer=tokenizer,
    )
    scores = SCORES.clone() if tokenizer is None else torch.zeros(tokenizer.vocab_size)
    rules.apply(scores, ids, num_first)
    assert not rules.is_empty
    return scores


def theirs(ids: list[int], num_first: int, **options: object) -> Tensor:
    """What the processors of transformers make of the same scores."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GenerationConfig(eos_token_id=STOP_ID, **options)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=VOCAB_SIZE)
    )
    model._prepare_special_tokens(config, device="cpu")
    processors = model._get_logits_processor(
        config, input_ids_seq_length=num_first, device="cpu", prefix_allowed_tokens_fn=None
    )
    scores: Tensor = processors(torch.tensor([ids]), SCORES.clone().unsqueeze(0))[0]
    return scores


CASES = {
    "repetition": ({"repetition_penalty": 1.7}, {"repetition_penalty": 1.7}),
    "repetition-below-1": ({"repetition_penalty": 0.6}, {"repetition_penalty": 0.6}),
    "ngram-1": ({"no_repeat_ngram": 1}, {"no_repeat_ngram_size": 1}),
    "ngram-2": ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
    "ngram-3": ({"no_repeat_ngram": 3}, {"no_repeat_ngram_size": 3}),
    "bad-ids": ({"bad_ids": ((7,), (9,))}, {"bad_words_ids": [[7], [9]]}),
    "bad-runs": (
        {"bad_ids": ((IDS[-1], 8), (IDS[-2], IDS[-1], 5), (IDS[-1], IDS[-2], 3))},
        {"bad_words_ids": [[IDS[-1], 8], [IDS[-2], IDS[-1], 5], [IDS[-1], IDS[-2], 3]]},
    ),
    "min-tokens": ({"min_tokens": 11}, {"min_new_tokens": 11}),
    "min-tokens-reached": ({"min_tokens": 10}, {"min_new_tokens": 10}),
    "logit-bias": (
        {"logit_bias": ((3, 2.5), (4, -math.inf))},
        {"sequence_bias": {(3,): 2.5, (4,): -math.inf}},
    ),
    "all": (
        {
            "logit_bias": ((IDS[3], 9.0),),
            "repetition_penalty": 1.3,
            "no_repeat_ngram": 2,
            "bad_ids": ((7,),),
            "min_tokens": 20,
        },
        {
            "sequence_bias": {(IDS[3],): 9.0},
            "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 2,
            "bad_words_ids": [[7]],
            "min_new_tokens": 20,
        },
    ),
}


@pytest.mark.parametrize(("settings", "options"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("repeats", [1, 2], ids=["once", "twice"])
def test_scores_equal_those_of_transformers(
    settings: dict[str, object], options: dict[str, object], repeats: int
) -> None:
    ids = IDS * repeats
    num_first = len(ids) - 10

    assert torch.equal(ruled(ids, num_first, **settings), theirs(ids, num_first, **options))


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_sequence_shorter_than_the_ngram_repeats_nothing(length: int) -> None:
    assert torch.equal(ruled(IDS[:length], no_repeat_ngram=3), SCORES)


def test_presence_and_frequency_count_new_tokens_alone() -> None:
    ids, num_first = [5, 5, 6, 7, 7, 7, 8], 3

    scores = ruled(ids, num_first, presence_penalty=0.5, frequency_penalty=0.25)

    expected = SCORES.clone()
    expected[7] -= 0.5 + 3 * 0.25
    expected[8] -= 0.5 + 0.25
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)
    assert torch.equal(scores[[5, 6]], SCORES[[5, 6]])


def test_none_but_the_allowed_ids_are_left() -> None:
    scores = ruled([1], allowed_ids=(4, 9))

    assert scores.isfinite().nonzero()[:, 0].tolist() == [4, 9]
    assert torch.equal(scores[[4, 9]], SCORES[[4, 9]])


def test_a_bad_word_is_banned_alone_and_after_a_space() -> None:
    tokenizer = Tokenizer.train(["abc abc abc abc"] * 9, 270, allow_smaller=True)
    word, after_space = tokenizer.encode("abc"), tokenizer.encode(" abc")
    text = tokenizer.encode("xyz")

    first = ruled([*text, *word[:-1]], 0, tokenizer, bad_words=("abc",))
    second = ruled([*text, *after_space[:-1]], 0, tokenizer, bad_words=("abc",))

    assert first[word[-1]] == -math.inf
    assert second[after_space[-1]] == -math.inf


def test_settings_that_change_nothing_are_empty() -> None:
    rules = TokenRules(SamplingSettings(), stop_ids={2}, vocab_size=9, tokenizer=None)

    assert rules.is_empty


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logit_bias": ((30, 1.0),)}, "logit_bias has the id 30; expected 0 to 29"),
        ({"bad_ids": ((1, 99),)}, "bad_ids has the id 99; expected 0 to 29"),
        ({"bad_words": ("x",)}, r"bad_words is \('x',\), but there is no tokenizer; use bad_ids"),
    ],
    ids=["logit-bias", "bad-ids", "bad-words"],
)
def test_rules_that_the_model_cannot_follow_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ruled([1], **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_tokens": 129}, "min_tokens is 129; expected 0 to max_tokens, 128"),
        ({"typical_p": 0.0}, "typical_p is 0.0; expected above 0 and at most 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; expected a finite number above"),
        ({"presence_penalty": math.nan}, "presence_penalty is nan; expected a finite number"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram is -1; expected 0"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias is .* expected pairs of an id"),
        ({"bad_ids": ((),)}, "bad_ids is .* expected runs of at least one id"),
        ({"bad_words": "no"}, "bad_words is 'no'; expected a tuple of texts"),
        ({"n": 0}, "n is 0; expected at least 1"),
        ({"n": 2}, "n or best_of is 2 at temperature 0; expected 1"),
        ({"n": 3, "best_of": 2, "temperature": 1.0}, "best_of is 2; expected at least n, 3"),
        ({"num_beams": 2, "n": 3}, "n is 3; expected at most num_beams, 2"),
        ({"num_beams": 2, "temperature": 1.0}, "temperature is 1.0 with num_beams 2; expected one"),
        ({"num_beams": 2, "early_stopping": "soon"}, "early_stopping is 'soon'; expected True"),
        ({"logprobs": -1}, "logprobs is -1; expected 0 to 1000, or None"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_refused_by_name(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SamplingSettings(), **changes)  # type: ignore[arg-type]
