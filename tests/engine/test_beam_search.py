"""Beam search: ids, scores and their order are those of transformers."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.test_seq2seq_families import ours_of
from tests.engine.test_seq2seq_generation import lively, ours_again, sources, theirs_of
from tests.engine.tiny_models import tiny_model
from weldlm.batch_limits import BatchLimits
from weldlm.completion import Completion
from weldlm.engine import GenerativeModel
from weldlm.generation import complete, generate
from weldlm.heads import CausalLM
from weldlm.memory import cache_bytes
from weldlm.prompt import Prompt
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained, save_pretrained

SEARCHES = {
    "plain": {},
    "short": {"length_penalty": -1.0},
    "long": {"length_penalty": 2.5, "early_stopping": "never"},
    "early": {"early_stopping": True},
    "rules": {"no_repeat_ngram": 2, "repetition_penalty": 1.4},
    "late": {"min_tokens": 6},
}
NAMES = {"no_repeat_ngram": "no_repeat_ngram_size", "min_tokens": "min_new_tokens"}


def their_beams(
    model: Any, prompt: list[int], num_first: int, **options: Any
) -> list[tuple[tuple[int, ...], float]]:
    """New ids, without padding, and score of each sequence."""
    options = {NAMES.get(name, name): value for name, value in options.items()}
    found = model.generate(
        torch.tensor([prompt]),
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        pad_token_id=96,
        **options,
    )
    beams = []
    for row, score in zip(found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
        new = row[num_first:]
        while new and new[-1] == 96:
            new.pop()
        beams.append((tuple(new), score))
    return beams


def all_of(completion: Completion) -> list[Completion]:
    return [completion, *completion.others]


def assert_equal_beams(
    found: list[Completion], expected: list[tuple[tuple[int, ...], float]]
) -> None:
    assert [one.ids for one in found] == [ids for ids, _ in expected]
    assert [one.score for one in found] == pytest.approx([score for _, score in expected], rel=1e-4)


def ending_model(folder: Path) -> tuple[CausalLM, Any]:
    """A tiny GPT-2 that ends its texts now and then, and the same of transformers."""
    transformers = pytest.importorskip("transformers")
    save_pretrained(tiny_model(eos_id=5), folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    return load_pretrained(folder, CausalLM).eval(), theirs


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_beams_of_a_decoder_equal_those_of_transformers(
    tmp_path: Path, search: dict[str, Any]
) -> None:
    ours, theirs = ending_model(tmp_path)
    prompts = [[7, 3, 11], [20, 21, 22, 23, 24, 25, 26, 1]]
    settings = SamplingSettings(max_tokens=12, num_beams=4, n=3, **search)

    completions = generate(ours, None, prompts, settings)

    for prompt, completion in zip(prompts, completions, strict=True):
        expected = their_beams(
            theirs,
            prompt,
            len(prompt),
            max_new_tokens=12,
            num_beams=4,
            num_return_sequences=3,
            eos_token_id=5,
            **search,
        )
        assert_equal_beams(all_of(completion), expected)


@pytest.mark.parametrize("name", ["t5", "bart"])
@pytest.mark.parametrize("search", [{}, {"length_penalty": 0.5, "early_stopping": True}])
def test_beams_of_an_encoder_decoder_equal_those_of_transformers(
    tmp_path: Path, name: str, search: dict[str, Any]
) -> None:
    save_pretrained(lively(ours_of(name, tmp_path / "theirs")), tmp_path / "ours")
    theirs = type(theirs_of(name)).from_pretrained(tmp_path / "ours").eval()
    ours = ours_again(tmp_path)
    settings = SamplingSettings(max_tokens=10, num_beams=3, n=2, **search)

    completions = generate(ours, None, sources(), settings)

    for source, completion in zip(sources(), completions, strict=True):
        expected = their_beams(
            theirs,
            source,
            1,
            max_new_tokens=10,
            num_beams=3,
            num_return_sequences=2,
            use_cache=False,
            **search,
        )
        assert_equal_beams(all_of(completion), expected)


def searched(
    model: GenerativeModel, settings: SamplingSettings, limits: BatchLimits
) -> dict[int, Completion]:
    generator = torch.Generator().manual_seed(4)
    prompts = [
        Prompt(row, torch.randint(97, (length,), generator=generator).tolist())
        for row, length in enumerate((5, 17, 9))
    ]
    return dict(complete(model, None, prompts, settings, limits=limits))


def test_beams_do_not_depend_on_the_batch_or_on_preemption() -> None:
    model, settings = tiny_model(), SamplingSettings(max_tokens=14, num_beams=3, n=3)
    bytes_of_block = cache_bytes(model.config, 4, dtype=torch.float32)

    alone = searched(model, settings, BatchLimits(batch_size=3))
    together = searched(model, settings, BatchLimits(batch_size=9, max_batch_tokens=7))
    small = BatchLimits(batch_size=9, max_length=31, block_size=4, cache_bytes=24 * bytes_of_block)

    pressed = searched(model, settings, small)

    for row, completion in alone.items():
        expected = [(one.ids, one.score or 0.0) for one in all_of(completion)]
        assert_equal_beams(all_of(together[row]), expected)
        assert_equal_beams(all_of(pressed[row]), expected)


def test_a_stop_text_ends_a_beam() -> None:
    tokenizer = Tokenizer.train(["no pair occurs twice"], 257, min_frequency=9)
    model = tiny_model(vocab_size=257)
    settings = SamplingSettings(max_tokens=8, num_beams=3, allowed_ids=(*b"xyz",))
    (free,) = generate(model, tokenizer, ["abc"], settings)
    stop = free.text[2:4]
    settings = dataclasses.replace(settings, n=3, early_stopping=True, stop=(stop,))

    (completion,) = generate(model, tokenizer, ["abc"], settings)

    (stopped, *_) = [one for one in all_of(completion) if one.finish_reason == "stop"]
    assert tokenizer.decode(stopped.ids) == stopped.text + stop
    assert all(stop not in one.text for one in all_of(completion))
