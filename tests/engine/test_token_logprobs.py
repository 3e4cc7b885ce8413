"""Log-probabilities of prompts and new tokens are those of one whole forward."""

import pytest
import torch

from tests.engine.test_generation import random_prompts
from tests.engine.tiny_models import tiny_model
from weldlm.batch_limits import BatchLimits
from weldlm.completion import Completion
from weldlm.generation import complete, generate
from weldlm.packing import PackedBatch
from weldlm.prompt import Prompt
from weldlm.sampling_settings import SamplingSettings


def whole(ids: list[int]) -> torch.Tensor:
    """[T, vocab_size] fp64, of the token after each."""
    with torch.inference_mode():
        logits = tiny_model().double().logits(PackedBatch.from_sequences([ids]))
    return logits.log_softmax(dim=-1)


def check(completion: Completion, prompt: list[int], num_top: int) -> None:
    scores = whole([*prompt, *completion.ids])
    assert completion.logprobs is not None
    assert [one.id for one in completion.logprobs] == list(completion.ids)
    for place, one in enumerate(completion.logprobs, start=len(prompt) - 1):
        best = scores[place].topk(num_top)
        assert one.logprob == pytest.approx(scores[place, one.id].item(), abs=1e-4)
        assert [token_id for token_id, _ in one.top] == best.indices.tolist()
        assert [value for _, value in one.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_logprobs_are_the_models_own_before_rules_and_filters() -> None:
    prompts = random_prompts(6, 11)
    settings = SamplingSettings(
        max_tokens=8, temperature=0.7, top_k=9, repetition_penalty=1.5, logprobs=3
    )

    completions = generate(tiny_model(), None, prompts, settings)

    for completion, prompt in zip(completions, prompts, strict=True):
        check(completion, prompt, 3)


@pytest.mark.parametrize(
    "limits",
    [{}, {"prefill_chunk": 4}, {"max_batch_tokens": 3}, {"cache_bytes": 45_000}],
    ids=["whole", "chunks", "few-tokens", "preempted"],
)
def test_logprobs_of_a_prompt_are_those_of_each_token_behind_the_first(
    limits: dict[str, int],
) -> None:
    prompts = random_prompts(17, 9, 17)
    settings = SamplingSettings(max_tokens=9, prompt_logprobs=2, logprobs=0)
    options = BatchLimits(max_length=26, block_size=4, **limits)  # type: ignore[arg-type]
    rows = [Prompt(row, ids) for row, ids in enumerate([*prompts, prompts[0]])]

    found = dict(complete(tiny_model(), None, rows, settings, limits=options))

    for row, prompt in enumerate([*prompts, prompts[0]]):
        scores, logprobs = whole(prompt), found[row].prompt_logprobs
        assert logprobs is not None
        assert [one.id for one in logprobs] == prompt[1:]
        expected = [scores[place, token_id].item() for place, token_id in enumerate(prompt[1:])]
        assert [one.logprob for one in logprobs] == pytest.approx(expected, abs=1e-4)
        assert [one.top[0][0] for one in logprobs] == scores[:-1].argmax(dim=-1).tolist()


def test_best_of_keeps_the_most_probable_samples() -> None:
    (prompt,) = random_prompts(7)
    settings = SamplingSettings(max_tokens=6, temperature=1.5, n=5, logprobs=0, seed=2)
    (sampled,) = generate(tiny_model(), None, [prompt], settings)
    samples = [sampled, *sampled.others]
    scores = [sum(one.logprob for one in sample.logprobs or ()) for sample in samples]
    best, second, *_ = sorted(range(5), key=lambda place: -scores[place])

    settings = SamplingSettings(max_tokens=6, temperature=1.5, n=2, best_of=5, seed=2)
    (kept,) = generate(tiny_model(), None, [prompt], settings)

    assert [kept.ids, *(other.ids for other in kept.others)] == [
        samples[best].ids,
        samples[second].ids,
    ]
    assert kept.score == pytest.approx(scores[best], abs=1e-4)
