"""The engine under pressure: preemption, prefixes, groups and aborts change no token."""

from collections.abc import Sequence

import pytest
import torch

from tests.engine.test_generation import random_prompts, uncached
from tests.engine.tiny_models import tiny_model
from tests.tolerance import assert_within_tolerance
from weldlm.batch_limits import BatchLimits
from weldlm.completion import Completion
from weldlm.engine import Engine
from weldlm.generation_request import Request
from weldlm.heads import CausalLM
from weldlm.memory import cache_bytes
from weldlm.packing import PackedBatch
from weldlm.sampling_settings import SamplingSettings

GREEDY = SamplingSettings(max_tokens=12)
SAMPLED = SamplingSettings(max_tokens=12, temperature=1.5, top_p=0.95, seed=3)
LENGTHS = (7, 1, 30, 3, 12, 25)
BLOCK_SIZE = 4


def limits(*, num_blocks: int | None = None, **changes: object) -> BatchLimits:
    """Small blocks; `num_blocks` of them where given."""
    config = tiny_model().config
    options: dict[str, object] = {"block_size": BLOCK_SIZE, "max_length": 44, **changes}
    if num_blocks is not None:
        bytes_of_block = cache_bytes(config, BLOCK_SIZE, dtype=torch.float32)
        options["cache_bytes"] = num_blocks * bytes_of_block
    return BatchLimits(**options)  # type: ignore[arg-type]


def requests(
    settings: SamplingSettings, prompts: Sequence[Sequence[int]] | None = None
) -> list[Request]:
    prompts = random_prompts(*LENGTHS) if prompts is None else prompts
    return [
        Request(id=row, ids=ids, settings=settings, row_id=row) for row, ids in enumerate(prompts)
    ]


def run(engine: Engine, todo: Sequence[Request]) -> dict[int | str, Completion]:
    for request in todo:
        engine.add(request)
    done = {}
    while engine.has_work:
        done |= {event.request_id: event.completion for event in engine.step() if event.completion}
    return done


def expected(model: CausalLM, todo: Sequence[Request]) -> dict[int | str, tuple[int, ...]]:
    return {
        request.id: uncached(model, request.ids, request.settings, request.row_id)
        for request in todo
    }


def ids_of(done: dict[int | str, Completion]) -> dict[int | str, tuple[int, ...]]:
    return {request_id: completion.ids for request_id, completion in done.items()}


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("num_blocks", [11, 16], ids=["one-at-a-time", "few"])
def test_a_pool_that_runs_out_changes_no_token(settings: SamplingSettings, num_blocks: int) -> None:
    model, todo = tiny_model(), requests(settings)
    engine = Engine(model, None, limits(num_blocks=num_blocks))

    done = run(engine, todo)

    assert engine.counts.num_preemptions > 0
    assert engine.counts.num_held_blocks == 0
    assert ids_of(done) == expected(model, todo)


def test_a_prefix_that_others_computed_changes_no_token_and_is_not_computed_again() -> None:
    model, (prefix, first, second) = tiny_model(), random_prompts(22, 5, 6)
    todo = requests(GREEDY, [[*prefix, *first], [*prefix, *second], [*prefix, *first]])
    engine = Engine(model, None, limits(batch_size=1, is_batch_invariant=False))
    rows: list[int] = []
    model.transformer.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].num_tokens))

    done = run(engine, todo)

    assert ids_of(done) == expected(tiny_model(), todo)
    # 20 of 22 tokens of the prefix fill blocks; of the third prompt all but its last 3 do
    assert [count for count in rows if count > 1] == [27, 8, 3]


def test_prefixes_are_not_shared_where_nobody_wants_it() -> None:
    model, (prompt,) = tiny_model(), random_prompts(22)
    engine = Engine(
        model, None, limits(batch_size=1, shares_prefixes=False, is_batch_invariant=False)
    )
    rows: list[int] = []
    model.transformer.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].num_tokens))

    run(engine, requests(GREEDY, [prompt, prompt]))

    assert [count for count in rows if count > 1] == [22, 22]


def test_requests_with_settings_of_their_own_share_a_batch() -> None:
    model, prompts = tiny_model(), random_prompts(5, 9, 3, 6)
    choices = [GREEDY, SAMPLED, SamplingSettings(max_tokens=3, temperature=0.7, top_k=5), GREEDY]
    todo = [
        Request(id=f"r{row}", ids=ids, settings=settings, row_id=row + 5)
        for row, (ids, settings) in enumerate(zip(prompts, choices, strict=True))
    ]

    done = run(Engine(model, None, limits()), todo)

    assert ids_of(done) == expected(model, todo)


def test_the_samples_of_a_prompt_are_draws_of_their_own() -> None:
    model, (prompt,) = tiny_model(), random_prompts(6)
    settings = SamplingSettings(max_tokens=12, temperature=1.0, n=4)
    engine = Engine(model, None, limits())

    (completion,) = run(engine, requests(settings, [prompt])).values()

    samples = [completion.ids, *(other.ids for other in completion.others)]
    assert len(set(samples)) == 4
    assert samples[0] == uncached(model, prompt, settings)
    assert engine.counts.num_held_blocks == 0


def test_samples_do_not_depend_on_preemption_or_the_batch() -> None:
    model, settings = tiny_model(), SamplingSettings(max_tokens=16, temperature=1.0, n=2)
    todo = requests(settings, random_prompts(7, 14, 5))
    alone = [run(Engine(model, None, limits()), [request])[request.id] for request in todo]
    engine = Engine(model, None, limits(num_blocks=17))

    done = run(engine, todo)

    assert engine.counts.num_preemptions > 0
    assert [done[request.id] for request in todo] == alone


def test_events_add_up_to_the_completion() -> None:
    settings = SamplingSettings(max_tokens=9, temperature=1.0, n=2, logprobs=3)
    engine = Engine(tiny_model(), None, limits())
    engine.add(Request(id="a", ids=[3, 1, 4], settings=settings))
    events = []
    while engine.has_work:
        events += engine.step()

    completion = events[-1].completion
    assert completion is not None
    for index, found in enumerate((completion, *completion.others)):
        own = [event for event in events if event.index == index]
        assert sum((event.ids for event in own), ()) == found.ids
        assert sum((event.logprobs for event in own), ()) == found.logprobs
        assert own[-1].finish_reason == found.finish_reason == "length"


@pytest.mark.parametrize("num_steps", [0, 1, 5], ids=["waiting", "reading", "writing"])
def test_an_aborted_request_leaves_nothing_behind(num_steps: int) -> None:
    model, todo = tiny_model(), requests(GREEDY)
    engine = Engine(model, None, limits(batch_size=4, max_batch_tokens=16))
    for request in todo:
        engine.add(request)
    for _ in range(num_steps):
        engine.step()

    assert engine.abort(2)
    assert not engine.abort(2)
    done = run(engine, [])

    assert ids_of(done) == {k: v for k, v in expected(model, todo).items() if k != 2}
    assert engine.counts.num_held_blocks == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": [1] * 40}, "request 'a' may grow to 52 tokens; expected at most max_length 44"),
        ({"ids": [1] * 30}, r"1 sequences of 42 tokens take 11 blocks .* at most 10; lower"),
        ({"settings": SamplingSettings(n=5, temperature=1.0, max_tokens=2)}, "needs 5 sequences"),
        ({"id": "b"}, "request 'b' is under way; give another id"),
        (
            {"settings": SamplingSettings(allowed_ids=(97,), max_tokens=2)},
            "allowed_ids has the id 97; expected 0 to 96",
        ),
    ],
    ids=["too-long", "too-large", "too-wide", "twice", "unknown-id"],
)
def test_a_request_that_can_never_be_computed_is_refused(
    changes: dict[str, object], message: str
) -> None:
    engine = Engine(tiny_model(), None, limits(num_blocks=10, batch_size=4))
    engine.add(Request(id="b", ids=[1], settings=GREEDY))
    request = {"id": "a", "ids": [1], "settings": GREEDY, **changes}

    with pytest.raises(ValueError, match=message):
        engine.add(Request(**request))  # type: ignore[arg-type]


def test_an_int8_cache_gives_nearly_the_same_scores() -> None:
    model, (prompt,) = tiny_model("llama-tiny"), random_prompts(30)
    settings = SamplingSettings(max_tokens=1, prompt_logprobs=0)
    todo = requests(settings, [prompt])

    (exact,) = run(Engine(model, None, limits()), todo).values()
    (rounded,) = run(Engine(model, None, limits(cache_dtype="int8")), todo).values()

    assert exact.prompt_logprobs is not None
    assert rounded.prompt_logprobs is not None
    errors = [
        abs(a.logprob - b.logprob)
        for a, b in zip(exact.prompt_logprobs, rounded.prompt_logprobs, strict=True)
    ]
    assert 0 < max(errors) < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_cache_in_16_bits_gives_the_scores_of_one_forward(dtype: torch.dtype) -> None:
    (prompt,) = random_prompts(30)
    todo = requests(SamplingSettings(max_tokens=1, prompt_logprobs=0), [prompt])
    engine = Engine(tiny_model("llama-tiny").to(dtype), None, limits(prefill_chunk=7))

    (found,) = run(engine, todo).values()

    actual = torch.tensor([one.logprob for one in found.prompt_logprobs or ()], dtype=dtype)
    assert_within_tolerance(
        "logprobs",
        actual,
        whole_logprobs(prompt, dtype, dtype),
        whole_logprobs(prompt, dtype, torch.float64),
    )


def whole_logprobs(
    prompt: list[int], weights_dtype: torch.dtype, dtype: torch.dtype
) -> torch.Tensor:
    """Of each token behind the first, by a forward without a cache in `dtype`."""
    model = tiny_model("llama-tiny").to(weights_dtype).to(dtype)
    with torch.inference_mode():
        logits = model.logits(PackedBatch.from_sequences([prompt]))
    scores = logits[:-1].to(torch.promote_types(dtype, torch.float32)).log_softmax(dim=-1)
    return scores.gather(1, torch.tensor(prompt[1:]).unsqueeze(1)).squeeze(1).to(dtype)
