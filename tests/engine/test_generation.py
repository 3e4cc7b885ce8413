"""Generation: cached equals uncached token for token, and every row stands alone."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.tiny_models import tiny_model
from weldlm.generation import BatchLimits, LanguageModel, complete, generate
from weldlm.heads import CausalLM
from weldlm.packing import PackedBatch
from weldlm.prompt import Prompt
from weldlm.sampling import SamplingSettings, sample
from weldlm.weights import save_pretrained

FAMILIES = pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
DECODING = pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(max_tokens=12),
        SamplingSettings(max_tokens=12, temperature=2.0, top_k=60, top_p=0.98, min_p=1e-3, seed=7),
    ],
    ids=["greedy", "sampled"],
)


def random_prompts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randint(97, (length,), generator=generator).tolist() for length in lengths]


def uncached(
    model: CausalLM, prompt: Sequence[int], settings: SamplingSettings, row_id: int = 0
) -> tuple[int, ...]:
    """Generation by its definition: the whole prefix goes through the model for each token."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(settings.max_tokens):
            logits = model.next_token_logits(PackedBatch.from_sequences([ids]))
            row_ids, positions = torch.tensor([row_id]), torch.tensor([len(ids)])
            ids += sample(logits, settings, row_ids=row_ids, positions=positions).tolist()
    return tuple(ids[len(prompt) :])


def generated_ids(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    **limits: int,
) -> list[tuple[int, ...]]:
    return [completion.ids for completion in generate(model, None, prompts, settings, **limits)]


@FAMILIES
@DECODING
def test_cached_equals_uncached_for_one_prompt(name: str, settings: SamplingSettings) -> None:
    model, (prompt,) = tiny_model(name), random_prompts(9)

    assert generated_ids(model, [prompt], settings) == [uncached(model, prompt, settings)]


@FAMILIES
@DECODING
@pytest.mark.parametrize("max_batch_tokens", [1, 16, 2_048], ids=["1", "16", "whole"])
def test_cached_equals_uncached_for_a_ragged_batch_and_chunked_prompts(
    name: str, settings: SamplingSettings, max_batch_tokens: int
) -> None:
    model, prompts = tiny_model(name), random_prompts(7, 1, 30, 3)

    ids = generated_ids(model, prompts, settings, batch_size=3, max_batch_tokens=max_batch_tokens)

    assert ids == [uncached(model, prompt, settings, row) for row, prompt in enumerate(prompts)]


@FAMILIES
@DECODING
def test_ids_do_not_depend_on_the_batch_size(name: str, settings: SamplingSettings) -> None:
    model, prompts = tiny_model(name), random_prompts(7, 1, 30, 3, 12)

    one_by_one = generated_ids(model, prompts, settings, batch_size=1)

    assert generated_ids(model, prompts, settings, batch_size=3) == one_by_one
    assert generated_ids(model, prompts, settings, batch_size=64) == one_by_one


@FAMILIES
@DECODING
def test_ids_do_not_depend_on_the_order_of_the_rows(name: str, settings: SamplingSettings) -> None:
    model = tiny_model(name)
    prompts = [Prompt(row, ids) for row, ids in enumerate(random_prompts(7, 1, 30, 3, 12))]
    limits = BatchLimits(batch_size=3)

    forwards = dict(complete(model, None, prompts, settings, limits=limits))
    backwards = dict(complete(model, None, prompts[::-1], settings, limits=limits))

    assert forwards == backwards


def test_rows_with_the_same_prompt_are_sampled_apart() -> None:
    settings = SamplingSettings(max_tokens=20, temperature=1.0)

    first, second = generated_ids(tiny_model(), random_prompts(5) * 2, settings)

    assert first != second


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny", "qwen3-0.6b"])
def test_greedy_equals_transformers(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model, prompts = tiny_model(name, context_length=128), random_prompts(7, 1, 30)
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    ids = generated_ids(model, prompts, SamplingSettings(max_tokens=64))

    assert ids == [their_greedy_ids(theirs, prompt, 64) for prompt in prompts]


def test_greedy_with_rules_equals_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model, prompts = tiny_model(context_length=128), random_prompts(7, 1, 30)
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    settings = SamplingSettings(
        max_tokens=40, repetition_penalty=1.3, no_repeat_ngram=2, bad_ids=((5,), (8, 9))
    )

    ids = generated_ids(model, prompts, settings)

    options: dict[str, Any] = {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[5], [8, 9]],
    }
    assert ids == [their_greedy_ids(theirs, prompt, 40, **options) for prompt in prompts]


def their_greedy_ids(
    model: object, prompt: list[int], max_tokens: int, **options: Any
) -> tuple[int, ...]:
    ids = model.generate(  # type: ignore[attr-defined]
        torch.tensor([prompt]),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=0,
        **options,
    )
    return tuple(ids[0, len(prompt) :].tolist())


@FAMILIES
def test_prompts_enter_as_soon_as_others_leave(name: str) -> None:
    model, prompts = tiny_model(name), random_prompts(3, 4, 5, 6)
    settings = SamplingSettings(max_tokens=8)
    (stop_id,) = {uncached(model, prompts[0], settings)[2]}
    settings = dataclasses.replace(settings, stop_ids=(stop_id,))
    limits = BatchLimits(batch_size=2)
    rows = (Prompt(row, ids) for row, ids in enumerate(prompts))

    first_row, first = next(complete(model, None, rows, settings, limits=limits))

    assert (first_row, first.ids[-1], first.finish_reason) == (0, stop_id, "stop")
    assert next(rows).row_id == 2


@FAMILIES
def test_ids_up_to_a_full_context_equal_uncached(name: str) -> None:
    model, (prompt,) = tiny_model(name, context_length=16), random_prompts(9)

    (completion,) = generate(model, None, [prompt], SamplingSettings(max_tokens=99))

    assert completion.ids == uncached(model, prompt, SamplingSettings(max_tokens=7))
    assert completion.finish_reason == "context"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param(
            [1] * 64, r"the prompt has 64 tokens; .* context_length 64, .* shorten", id="too-long"
        ),
        pytest.param([1, 97], r"the id 97; expected 0 to 96, .* use the tokenizer", id="high-id"),
        pytest.param([-1], r"the id -1; expected 0 to 96", id="negative-id"),
        pytest.param([], r"the prompt is empty; expected text, .* no bos_id or eos_id", id="empty"),
        pytest.param("text", r"the prompt is the text 'text'; .* pass a tokenizer", id="text"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_in_one_line(
    prompt: str | list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        generate(tiny_model(), None, [[1], prompt], SamplingSettings())


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        pytest.param("abc", {}, "prompts is the text 'abc'; expected a list", id="text"),
        pytest.param([[1]], {"batch_size": 0}, "batch_size is 0; expected", id="batch-size"),
        pytest.param(
            [[1]], {"max_batch_tokens": 0}, "max_batch_tokens is 0; expected", id="batch-tokens"
        ),
    ],
)
def test_bad_arguments_are_refused(
    prompts: list[list[int]], options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tiny_model(), None, prompts, SamplingSettings(), **options)


@pytest.mark.parametrize("prompt", [b"ab", None, 5, [1.0]], ids=["bytes", "none", "int", "floats"])
def test_a_prompt_of_another_type_is_refused_in_one_line(prompt: Any) -> None:
    with pytest.raises(TypeError, match=r"^the prompt is [^\n]*expected a text, or ids[^\n]*$"):
        generate(tiny_model(), None, [[1], prompt], SamplingSettings())


def test_ids_of_numpy_and_torch_are_ids() -> None:
    prompts = [np.array([1, 2]), torch.tensor([1, 2]), [1, 2]]

    by_numpy, by_torch, plain = generate(tiny_model(), None, prompts, SamplingSettings())

    assert by_numpy.ids == by_torch.ids == plain.ids


def test_stop_texts_without_a_tokenizer_are_refused() -> None:
    with pytest.raises(ValueError, match=r"stop is \('x',\), but there is no tokenizer"):
        generate(tiny_model(), None, [[1]], SamplingSettings(stop=("x",)))


def test_settings_left_out_are_the_defaults() -> None:
    model, prompts = tiny_model(), random_prompts(5, 3)

    assert generate(model, None, prompts) == generate(model, None, prompts, SamplingSettings())
    assert generate(model, None, prompts, None) == generate(model, None, prompts)
